"""A clock that a test turns: time passes only from one call to the next."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable


class Call:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class TurnedClock:
    """``late_s`` is how long after its time each call is made."""

    def __init__(self, late_s: float = 0.0) -> None:
        self.now = 0.0
        self._late_s = late_s
        self._calls: list[tuple[float, int, Call]] = []
        self._count = itertools.count()

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None], /) -> Call:
        call = Call(callback)
        heapq.heappush(self._calls, (when, next(self._count), call))
        return call

    def run(self, until_s: float = float("inf")) -> None:
        while self._calls and self._calls[0][0] <= until_s:
            when, _, call = heapq.heappop(self._calls)
            if call.callback is not None:
                self.now = max(self.now, when + self._late_s)
                call.callback()
