"""The controller and a live fleet: what is asked of a meter and an actuator, turn by turn.

A turn counts arrivals, looks at the fleet, asks the controller, and acts. A meter or actuator that
fails costs that turn its knowledge, not the fleet its replicas: without a count nothing is stopped,
and without the fleet's state nothing is done. The fleet's own state is what counts after a
restart; the file of what was learned only helps.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from orchestrator.autoscale.controller import Controller
from orchestrator.autoscale.pools import Bucket
from orchestrator.simulation.events import GroupState, Observation
from profiler.errors import ClusterError, InputError

SAVE_EVERY = 30
"""Turns between two writes of what was learned."""


class OutOfStockError(ClusterError):
    """Fewer replicas of a group can be had than were asked for; ``short`` by so many."""

    def __init__(self, group: str, short: int) -> None:
        self.group, self.short = group, short
        super().__init__(f"{group}: {short} replicas fewer can be had than were asked for")


class Actuator(Protocol):
    """A live fleet. Both methods raise ClusterError where it cannot be reached."""

    def current(self) -> Mapping[str, GroupState]:
        """Every group as it is; one that cannot be seen is left out.

        Replicas that were given notice (spot reclaims, drained nodes) count as draining, so that
        what replaces them is asked for at the next turn.
        """
        ...

    def set(self, group: str, replicas: int) -> None:
        """Let a group have so many replicas; those too many finish what they have first.

        Raises:
            OutOfStockError: fewer can be had; those that can have been asked for.
        """
        ...


class Meter(Protocol):
    """Counts what arrives at the gateway, answered or not."""

    def arrivals(self) -> Mapping[Bucket, float] | None:
        """Requests since the last call by (stream, bucket key); None where it is not known.

        Those turned away count: what is shed is demand too.
        """
        ...


@dataclass
class Loop:
    """One live autoscaler. ``clock`` gives unix seconds; ``say`` gets a line for what went wrong.

    ``dry_run`` decides and tells, and changes nothing.
    """

    controller: Controller
    actuator: Actuator
    meter: Meter
    clock: Callable[[], float]
    say: Callable[[str], None] = lambda _: None
    state_file: Path | None = None
    dry_run: bool = False
    _last_s: float | None = None
    _refused: dict[str, int] = field(default_factory=dict)
    _unsaved: int = 0

    def start(self) -> None:
        """Take up what was learned before; a file that is damaged is passed over, and kept."""
        if self.state_file and self.state_file.exists():
            try:
                self.controller.load(self.state_file)
            except InputError as error:
                self.say(f"learning anew: {error}")
                self.state_file = None
        self.start_anew()

    def start_anew(self) -> None:
        """Count from now on, with what the controller knows already."""
        with contextlib.suppress(ClusterError):
            self.meter.arrivals()  # what came before the first turn has no interval
        self._last_s = self.clock()

    def turn(self) -> dict[str, int]:
        """Look, decide, act; what was wanted, nothing where the fleet could not be seen."""
        if self._last_s is None:
            self.start()
        assert self._last_s is not None
        now_s = self.clock()
        interval_s = now_s - self._last_s
        if interval_s <= 0:  # the clock was set back: the next turn counts from here
            self._last_s = now_s
            return {}
        arrivals = self._counted()
        self._last_s = now_s
        try:
            groups = self.actuator.current()
        except ClusterError as error:
            self.say(f"the fleet cannot be seen, nothing is changed: {error}")
            return {}
        seen = Observation(now_s, interval_s, groups, arrivals, self._refused)
        self._refused = {}
        wanted = self.controller(seen)
        if not self.dry_run:
            self._act(wanted, groups)
        self._save()
        return wanted

    def _counted(self) -> Mapping[Bucket, float] | None:
        try:
            return self.meter.arrivals()
        except ClusterError as error:
            self.say(f"arrivals are not known, nothing is stopped: {error}")
            return None

    def _act(self, wanted: Mapping[str, int], groups: Mapping[str, GroupState]) -> None:
        """Start first, then stop."""
        changes = {n: w - groups[n].staying for n, w in wanted.items()}
        for name in sorted(changes, key=lambda n: -changes[n]):
            if changes[name] == 0:
                continue
            try:
                self.actuator.set(name, wanted[name])
            except OutOfStockError as error:
                self._refused[name] = error.short
                self.say(str(error))
            except ClusterError as error:
                self.say(f"{name}: could not be changed to {wanted[name]}: {error}")
                return  # what replaces another may not be there: stop nothing now

    def _save(self) -> None:
        self._unsaved += 1
        if self.state_file and self._unsaved >= SAVE_EVERY:
            self.save()

    def save(self) -> None:
        """Write what was learned, in one step; a full disk is said and survived."""
        self._unsaved = 0
        if self.state_file:
            try:
                self.controller.save(self.state_file)
            except InputError as error:
                self.say(str(error))
