"""A replica's steps taken in real time: no drift, and lateness told instead of hidden.

The engine's own clock moves by steps alone. A step begins where the last one ended, whenever this
process got round to it, so a machine that falls behind catches up and answers arrive late, but the
engine does not become another one. How late the ends of steps were seen is measured, so that a
benchmark can tell when the machine was too slow for what it emulated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Protocol

from profiler.core import Profile
from profiler.emulated.replica import Replica, Request

CATCH_UP_STEPS = 64
"""Steps taken in one turn while behind; then sockets get theirs."""
LATE_S = 0.01
"""Lateness from which a step counts as late: tokens then bunch together visibly."""


class Timer(Protocol):
    """What `Clock.call_at` gives."""

    def cancel(self) -> None:
        """Do not call."""


class Clock(Protocol):
    """The part of an event loop that the pacer needs; a test passes one that it turns itself."""

    def time(self) -> float:
        """Seconds, never decreasing."""

    def call_at(self, when: float, callback: Callable[[], None], /) -> Timer:
        """Call once at a time; in order of the calls where times are equal."""


@dataclass
class Lateness:
    """How long after its due time the end of each step was seen, in seconds of the clock."""

    steps: int = 0
    late_steps: int = 0
    sum_s: float = 0.0
    max_s: float = 0.0

    def add(self, late_s: float) -> None:
        """One step."""
        late_s = max(late_s, 0.0)
        self.steps += 1
        self.late_steps += late_s > LATE_S
        self.sum_s += late_s
        self.max_s = max(self.max_s, late_s)


class Pacer:
    """Runs one replica by a clock."""

    def __init__(
        self,
        profile: Profile,
        clock: Clock,
        on_token: Callable[[Request], None],
        *,
        speed: float = 1.0,
        on_step: Callable[[], None] = lambda: None,
    ) -> None:
        """``on_token`` hears of each token when it appears, ``on_step`` of each step's end;
        ``speed`` 2 halves every time."""
        self.replica = Replica(profile, 0, None)
        self.lateness = Lateness()
        self.slowdown = 1.0
        self.frozen = False
        self._overhead_s = profile.request_overhead_s
        self._clock = clock
        self._on_token = on_token
        self._on_step = on_step
        self._speed = speed
        self._origin_s = clock.time()
        self._timer: Timer | None = None
        self._due_s = 0.0

    def now_s(self) -> float:
        """The time in the engine's own seconds."""
        return (self._clock.time() - self._origin_s) * self._speed

    def submit(self, request: Request) -> None:
        """Take a request in now; its arrival is set."""
        now = request.arrival_s = self.now_s()
        while self._turn(now, begin_before=now):
            pass
        self.replica.submit(request)
        self._arm()

    def cancel(self, request: Request) -> None:
        """Take a request out, within the step under way."""
        self.replica.cancel(request)

    def freeze(self) -> None:
        """Take no step until `thaw`."""
        self.frozen = True
        self._disarm()

    def thaw(self) -> None:
        """Go on; the time between never was, for this engine."""
        if self.frozen:
            self.frozen = False
            self.replica.clock_s = max(self.replica.clock_s, self.now_s())
            self._arm()

    def close(self) -> None:
        """Stop for good."""
        self.freeze()

    def _on_timer(self) -> None:
        self._timer = None
        # uvloop's timers are a millisecond coarse: one that comes early is on time.
        now = max(self.now_s(), self._due_s)
        for _ in range(CATCH_UP_STEPS):
            if not self._turn(now, begin_before=inf):
                break
        self._arm()

    def _turn(self, now: float, begin_before: float) -> bool:
        """End the step that is due and begin the next; False when there is nothing to do by now.

        A request that arrives at the very moment when a step begins is in time for it: the timer
        begins steps, an arrival only those that should have begun before it.
        """
        replica = self.replica
        if self.frozen or replica.clock_s > now:
            return False
        if replica.stepping:
            self.lateness.add((now - replica.clock_s) / self._speed)
            self._tell(replica.end_step())
            self._on_step()
        if not (replica.running or replica.waiting) or replica.clock_s >= begin_before:
            return False
        replica.begin_step(self.slowdown)
        return True

    def _tell(self, told: list[Request]) -> None:
        """A request's time outside the engine's steps delays its tokens, and no step."""
        if self._overhead_s == 0 or not told:
            self._appear(told)
            return
        appears_s = self._at(self.replica.clock_s + self._overhead_s)
        self._clock.call_at(appears_s, partial(self._appear, told))

    def _appear(self, told: list[Request]) -> None:
        for request in told:
            self._on_token(request)

    def _arm(self) -> None:
        replica = self.replica
        if self.frozen or not (replica.stepping or replica.running or replica.waiting):
            return
        if self._timer is None:
            self._due_s = replica.clock_s
            self._timer = self._clock.call_at(self._at(self._due_s), self._on_timer)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _at(self, engine_s: float) -> float:
        """The clock's time at the engine's."""
        return self._origin_s + engine_s / self._speed
