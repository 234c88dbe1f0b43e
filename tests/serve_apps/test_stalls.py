"""Time in which the event loop stood still is seen and told of; ordinary lateness is not."""

from __future__ import annotations

import asyncio

from serve_apps.stalls import BEAT_S, LEAST_S, Stalls


class Clock:
    """Stands still unless it is moved."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


async def test_a_stall_is_told_of_once_and_counted_before() -> None:
    clock, told = Clock(), asyncio.Queue[float]()
    stalls = Stalls(clock)
    stalls.start(told.put_nowait)
    clock.now_s = BEAT_S + 3.0
    assert (stalls.lost_s, stalls.total_s()) == (0.0, 3.0)  # seen by whoever is called first
    async with asyncio.timeout(20):
        assert await told.get() == 3.0
        assert (stalls.lost_s, stalls.total_s()) == (3.0, 3.0)
        clock.now_s += BEAT_S + 1.0
        assert await told.get() == 1.0
    stalls.close()
    clock.now_s += 100.0
    assert stalls.total_s() == 4.0


async def test_a_little_late_is_no_stall() -> None:
    clock = Clock()
    stalls = Stalls(clock)
    stalls.start(lambda _: None)
    clock.now_s = BEAT_S + 0.9 * LEAST_S
    assert stalls.total_s() == 0.0
    stalls.close()


def test_nothing_is_lost_before_it_watches() -> None:
    clock = Clock()
    stalls = Stalls(clock)
    clock.now_s = 100.0
    assert stalls.total_s() == 0.0
