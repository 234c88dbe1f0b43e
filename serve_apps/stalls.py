"""How long this process did not get to run, which is no fault of any engine.

On a crowded host the event loop may stand still for a second: another process had the cores, a
disk was slow, a machine was moved. What engines said meanwhile has come all the same, or would
have, had they not stood still too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

BEAT_S = 0.05
LEAST_S = 0.1
"""Later than this is a stall; below, see `FlowSettings.least_silence_s`."""


class Stalls:
    """A timer on the event loop that sees how late it is called."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is watched before `start`."""
        self.lost_s = 0.0
        """All stalls so far that are over."""
        self._clock = clock
        self._due_s: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._told: Callable[[float], object] = lambda _: None

    def start(self, told: Callable[[float], object]) -> None:
        """Watch this thread's event loop; ``told`` is called after each stall with its seconds."""
        self._told = told
        if self._timer is None:
            self._again()

    def total_s(self) -> float:
        """All stalls so far, and the one that is just ending, whoever is called first after it."""
        return self.lost_s + self._late_s()

    def close(self) -> None:
        """Watch no longer."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._due_s = None

    def _late_s(self) -> float:
        late_s = self._clock() - self._due_s if self._due_s is not None else 0.0
        return late_s if late_s > LEAST_S else 0.0

    def _beat(self) -> None:
        late_s = self._late_s()
        self._again()
        if late_s:
            self.lost_s += late_s
            self._told(late_s)

    def _again(self) -> None:
        self._due_s = self._clock() + BEAT_S
        self._timer = asyncio.get_running_loop().call_later(BEAT_S, self._beat)
