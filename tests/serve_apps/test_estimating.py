"""Prompts that come together are estimated together, elsewhere or at once; nobody waits long."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from serve_apps import estimating
from serve_apps.estimating import AtOnce, Estimating
from serve_apps.router.prompts import Prompt

LONG_S = 60.0


class Source:
    """Prepares prompts; stuck, it waits for ``go``."""

    def __init__(self) -> None:
        self.batches: list[list[Prompt]] = []
        self.threads: set[int] = set()
        self.stuck = False
        self.entered = threading.Event()
        self.entries = threading.Semaphore(0)
        self.go = threading.Event()

    def prepare(self, prompts: Sequence[Prompt]) -> None:
        self.threads.add(threading.get_ident())
        self.batches.append(list(prompts))
        self.entries.release()
        self.entered.set()
        if self.stuck:
            self.go.wait(LONG_S)


@pytest.fixture
def source() -> Iterator[Source]:
    found = Source()
    yield found
    found.go.set()


async def test_those_of_one_turn_are_prepared_together_and_elsewhere(source: Source) -> None:
    made = Estimating(source.prepare, LONG_S)
    prompts = [Prompt(str(i)) for i in range(5)]
    await asyncio.gather(*(made.prepared(p) for p in prompts))
    await made.prepared(prompts[0])
    made.close()
    assert source.batches == [prompts, [prompts[0]]]
    assert threading.get_ident() not in source.threads


async def test_what_comes_meanwhile_is_prepared_after_it(source: Source) -> None:
    made = Estimating(source.prepare, LONG_S)
    source.stuck = True
    first = asyncio.create_task(made.prepared(Prompt("a")))
    await asyncio.to_thread(source.entered.wait)
    second = asyncio.create_task(made.prepared(Prompt("b")))
    await asyncio.sleep(0)
    source.stuck = False
    source.go.set()
    await asyncio.gather(first, second)
    made.close()
    assert [[p.text for p in batch] for batch in source.batches] == [["a"], ["b"]]


async def test_one_that_hangs_holds_nobody_up_and_is_used_again_later(source: Source) -> None:
    made = Estimating(source.prepare, 0.01)
    source.stuck = True
    async with asyncio.timeout(LONG_S / 2):
        for _ in range(50):
            await made.prepared(Prompt("x"))
    assert len(source.batches) == 1
    source.stuck = False
    source.go.set()
    while len(source.batches) < 2:
        await made.prepared(Prompt("y"))
        await asyncio.sleep(0)
    made.close()


async def test_threads_that_hang_for_good_are_given_up_and_bounded(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimating, "STUCK_S", 0.0)
    made = Estimating(source.prepare, 0.001)
    source.stuck = True
    async with asyncio.timeout(LONG_S / 2):
        for _ in range(100):
            await made.prepared(Prompt("x"))
    made.close()
    for _ in range(estimating.MOST_THREADS):  # a thread that was started need not have run yet
        assert await asyncio.to_thread(source.entries.acquire, timeout=LONG_S / 2)
    assert len(source.threads) == estimating.MOST_THREADS


async def test_a_failure_is_nobodys_end() -> None:
    def fails(_prompts: Sequence[Prompt]) -> None:
        raise MemoryError

    made = Estimating(fails, LONG_S)
    await made.prepared(Prompt("a"))
    await made.prepared(Prompt("b"))
    made.close()


@pytest.mark.parametrize("kind", [Estimating, AtOnce])
async def test_closed_it_lets_everybody_pass(
    source: Source, kind: type[Estimating] | type[AtOnce]
) -> None:
    made = kind(source.prepare)
    made.close()
    await made.prepared(Prompt("a"))
    assert source.batches == []


async def test_at_once_those_of_one_turn_are_prepared_together_and_here(source: Source) -> None:
    made = AtOnce(source.prepare, slow_s=LONG_S)
    prompts = [Prompt(str(i)) for i in range(5)]
    await asyncio.gather(*(made.prepared(p) for p in prompts))
    await made.prepared(prompts[0], alone=True)
    made.close()
    assert source.batches == [prompts, [prompts[0]]]
    assert source.threads == {threading.get_ident()}


async def test_at_once_who_is_alone_waits_for_no_turn(source: Source) -> None:
    made = AtOnce(source.prepare, slow_s=LONG_S)
    asked = made.prepared(Prompt("a"), alone=True)
    with pytest.raises(StopIteration):
        asked.send(None)
    assert len(source.batches) == 1
    made.close()


async def test_at_once_a_failure_is_nobodys_end() -> None:
    def fails(_prompts: Sequence[Prompt]) -> None:
        raise MemoryError

    made = AtOnce(fails, slow_s=LONG_S)
    await asyncio.gather(*(made.prepared(Prompt("a")) for _ in range(3)))
    await made.prepared(Prompt("b"), alone=True)
    made.close()


async def test_at_once_who_left_is_not_prepared(source: Source) -> None:
    made = AtOnce(source.prepare, slow_s=LONG_S)
    left, stays = (asyncio.ensure_future(made.prepared(Prompt(t))) for t in "ab")
    await asyncio.sleep(0)
    left.cancel()
    await stays
    made.close()
    assert [p.text for batch in source.batches for p in batch][-1] == "b"


async def test_what_only_waits_for_the_processor_is_not_slow(source: Source) -> None:
    def waits(prompts: Sequence[Prompt]) -> None:
        source.prepare(prompts)
        time.sleep(0.02)

    made = AtOnce(waits, slow_s=0.01)
    for i in range(estimating.SLOW_IN_A_ROW + 1):
        await made.prepared(Prompt(str(i)))
    made.close()
    assert source.threads == {threading.get_ident()}


async def test_what_is_slow_at_once_is_soon_made_elsewhere(source: Source) -> None:
    made = AtOnce(source.prepare, slow_s=0.0, patience_s=LONG_S)
    for i in range(estimating.SLOW_IN_A_ROW + 1):
        await made.prepared(Prompt(str(i)))
    made.close()
    assert len(source.batches) == estimating.SLOW_IN_A_ROW + 1
    assert len(source.threads) == 2
