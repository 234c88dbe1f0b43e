"""Applications that take the place of others do so without a moment in which there is none."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from serve_apps.board import Board
from serve_apps.flow.nouns import Replica

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
