"""Waiting for the dispatcher's answer in asyncio: the only part of it that knows of event loops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from serve_apps.flow.nouns import Lease, Refused, Wait

BEAT_S = 0.02
DRAIN_POLL_S = 0.02


async def settled(answer: Lease | Wait | Refused) -> Lease:
    """The lease, at once or when the wait is over; cancelled, it leaves no trace.

    Raises:
        Refused: there is none.
    """
    if isinstance(answer, Wait):
        answer = await _answer(answer)
    if isinstance(answer, Refused):
        raise answer
    return answer


async def _answer(wait: Wait) -> Lease | Refused:
    if wait.answer is not None:
        return wait.answer
    future: asyncio.Future[Lease | Refused] = asyncio.get_running_loop().create_future()

    def settle(answer: Lease | Refused) -> None:
        if not future.done():
            future.set_result(answer)

    wait.settle = settle
    try:
        return await future
    except asyncio.CancelledError:
        wait.cancel()  # gives back the lease that came at this very moment, too
        raise


async def until(done: Callable[[], bool]) -> None:
    """Look now and then until it is so."""
    while not done():
        await asyncio.sleep(DRAIN_POLL_S)


class Heartbeat:
    """Calls ``beat`` every few milliseconds for as long as it answers True."""

    def __init__(self, beat: Callable[[], bool]) -> None:
        self._beat = beat
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Beat from now on, unless it does already."""
        loop = asyncio.get_running_loop()
        if self._timer is None:
            self._timer = loop.call_later(BEAT_S, self._on_time, loop)

    def _on_time(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        if self._beat():
            self._timer = loop.call_later(BEAT_S, self._on_time, loop)
