"""Groups are looked for until Serve knows them, and what is known of them outlives a plan."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from serve_apps.board import Board
from serve_apps.flow.nouns import Replica

pytestmark = pytest.mark.usefixtures("serve")


@dataclass
class Serve:
    """Knows the groups named, and tells the board of a group with its first handle alone."""

    board: Board
    known: set[str]
    asked: int = 0

    def __post_init__(self) -> None:
        self.handles: dict[str, SimpleNamespace] = {}

    def handle(self, _deployment: str, app_name: str) -> SimpleNamespace:
        self.asked += 1
        if app_name not in self.known:
            raise KeyError(app_name)
        if app_name not in self.handles:
            self.handles[app_name] = SimpleNamespace(is_initialized=True)
            self.board.post(app_name, [Replica(app_name, app_name, "http://x")])
        return self.handles[app_name]


async def found(told: list[tuple[Replica, ...]], *ids: str) -> None:
    async with asyncio.timeout(10):
        while not told or {r.id for r in told[-1]} != set(ids):
            await asyncio.sleep(0)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Serve:
    made = Serve(Board(), {"a"})
    monkeypatch.setattr("ray.serve.get_deployment_handle", made.handle)
    monkeypatch.setattr("serve_apps.discovery.RETRY_S", 0.0)
    monkeypatch.setattr("serve_apps.discovery.POLL_S", 0.0)
    return made


async def test_a_group_that_serve_does_not_know_yet_is_asked_for_again(fake: Serve) -> None:
    from serve_apps.discovery import Discovery

    told: list[tuple[Replica, ...]] = []
    discovery = Discovery(fake.board)
    discovery.start(told.append)
    discovery.watch(["a", "b"])
    await found(told, "a")
    fake.known.add("b")
    await found(told, "a", "b")
    await discovery.close()


async def test_a_group_that_comes_back_still_has_its_replicas(fake: Serve) -> None:
    from serve_apps.discovery import Discovery

    told: list[tuple[Replica, ...]] = []
    fake.known.add("b")
    discovery = Discovery(fake.board)
    discovery.start(told.append)
    discovery.watch(["a", "b"])
    await found(told, "a", "b")
    discovery.watch(["a"])
    await found(told, "a")
    discovery.watch(["a", "b"])
    await found(told, "a", "b")
    await discovery.close()


async def test_what_is_expected_is_waited_for_and_nothing_else_is_forgotten(fake: Serve) -> None:
    from serve_apps.discovery import Discovery

    told: list[tuple[Replica, ...]] = []
    discovery = Discovery(fake.board)
    discovery.start(told.append)
    discovery.watch(["a"])
    await found(told, "a")
    expecting = asyncio.create_task(discovery.expect(["b"]))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not expecting.done()
    fake.known.add("b")
    await expecting
    await found(told, "a", "b")
    discovery.watch(["b"])
    await found(told, "b")
    await discovery.close()


OLD, NEW = Replica("r1", "chat", "http://old"), Replica("r2", "chat", "http://new")


async def until(true: Any) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0)


async def test_an_old_application_is_forgotten_once_the_new_one_has_replicas(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from serve_apps.discovery import Discovery

    asked: list[str] = []

    def handle(_deployment: str, app_name: str) -> Any:
        asked.append(app_name)
        return SimpleNamespace(is_initialized=True)

    monkeypatch.setattr(serve, "get_deployment_handle", handle)
    board, told = Board(), list[tuple[Replica, ...]]()
    discovery = Discovery(board)
    discovery.start(told.append)
    board.post("old", [OLD])
    discovery.watch(["old"])
    await until(lambda: asked == ["old"])
    discovery.watch(["new"])
    await until(lambda: asked == ["old", "new"])
    board.post("new", [NEW])
    await until(lambda: told[-1] == (NEW,))
    await discovery.close()
    assert (OLD, NEW) in told
    assert all(told[1:]), "at no time was there none"
    assert set(told[-1]) == {NEW}
