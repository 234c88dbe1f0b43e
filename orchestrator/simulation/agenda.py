"""What is due when."""

from __future__ import annotations

import heapq
from collections.abc import Callable

Action = Callable[[float], None]


class Agenda:
    """Actions by time, at one time in the order in which they were put down."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Action]] = []
        self._serial = 0

    @property
    def next_s(self) -> float:
        """When the next action is due; infinite without any."""
        return self._heap[0][0] if self._heap else float("inf")

    def at(self, time_s: float, action: Action) -> None:
        """Put down an action, which gets the time when it is done."""
        heapq.heappush(self._heap, (time_s, self._serial, action))
        self._serial += 1

    def do_next(self) -> float:
        """Do the next action; when it was due."""
        time_s, _, action = heapq.heappop(self._heap)
        action(time_s)
        return time_s
