"""Replicas come from Serve, and requests pass even while its controller does not answer."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from serve_apps.replicas import GroupBusyError, NoReplicaError


class FakeServe:
    """`ray.serve` with one group ``a``, whose controller can hang and whose slots can run out."""

    def __init__(self) -> None:
        self.controller_answers = threading.Event()
        self.controller_answers.set()
        self.asked = threading.Event()
        self.running = 1
        self.slots = asyncio.Semaphore(1)

    def status(self) -> Any:
        self.asked.set()
        self.controller_answers.wait()
        engine = SimpleNamespace(replica_states={"RUNNING": self.running})
        return SimpleNamespace(applications={"a": SimpleNamespace(deployments={"engine": engine})})

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        """The controller answers nothing for a while."""
        self.asked.clear()
        self.controller_answers.clear()
        try:
            yield
        finally:
            self.controller_answers.set()

    def get_deployment_handle(self, deployment: str, app_name: str) -> FakeServe:
        return self

    @contextlib.asynccontextmanager
    async def choose_replica(self, avoid: tuple[str, ...]) -> AsyncIterator[Any]:
        async with self.slots:
            yield SimpleNamespace(replica_id="r1", replica_metadata={"url": "http://e"})


@pytest.fixture
def fake(serve: Any, monkeypatch: pytest.MonkeyPatch) -> FakeServe:
    from serve_apps import ingress

    made = FakeServe()
    monkeypatch.setattr(ingress, "serve", made)
    return made


def picker() -> Any:
    from serve_apps.ingress import ServePicker

    return ServePicker()


async def test_a_replica_is_held_while_it_is_used(fake: FakeServe) -> None:
    async with picker().pick("a", (), 10.0) as replica:
        assert (replica.id, replica.url) == ("r1", "http://e")
        assert fake.slots.locked()
    assert not fake.slots.locked()


async def test_a_group_without_replicas_is_told_from_a_full_one(fake: FakeServe) -> None:
    p = picker()
    with pytest.raises(NoReplicaError):
        async with p.pick("other", (), 10.0):
            pass
    async with p.pick("a", (), 10.0):
        with pytest.raises(GroupBusyError):
            async with p.pick("a", (), 0.01):
                pass
    assert not fake.slots.locked()


async def test_requests_pass_while_the_controller_hangs(
    fake: FakeServe, monkeypatch: pytest.MonkeyPatch
) -> None:
    from serve_apps import ingress

    monkeypatch.setattr(ingress, "READY_TTL_S", 0.0)
    p = picker()
    await p.ready()
    with fake.hanging():
        async with asyncio.timeout(20):
            while not fake.asked.is_set():
                assert await p.ready() == {"a": 1}
                await asyncio.sleep(0)
            async with p.pick("a", (), 10.0) as replica:
                assert replica.id == "r1"


async def test_an_old_status_does_not_rule_a_group_out(
    fake: FakeServe, monkeypatch: pytest.MonkeyPatch
) -> None:
    from serve_apps import ingress

    fake.running = 0
    p = picker()
    with pytest.raises(NoReplicaError):
        async with p.pick("a", (), 10.0):
            pass
    monkeypatch.setattr(ingress, "STALE_S", 0.0)
    with fake.hanging():
        async with p.pick("a", (), 10.0) as replica:
            assert replica.id == "r1"
            with pytest.raises(NoReplicaError):
                async with p.pick("a", (), 0.01):
                    pass


async def test_a_request_that_is_cancelled_while_it_waits_takes_no_slot(fake: FakeServe) -> None:
    p = picker()

    async def use() -> None:
        async with p.pick("a", (), 60.0):
            pass

    async with p.pick("a", (), 10.0):
        waiting = asyncio.create_task(use())
        await asyncio.sleep(0)
    waiting.cancel()  # at the very moment it is given the slot
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    assert waiting.cancelled()
    assert not fake.slots.locked()
