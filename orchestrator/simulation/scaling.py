"""An autoscaler's part in a simulation: what it is shown, and when."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from orchestrator.simulation.agenda import Agenda
from orchestrator.simulation.events import Autoscaler, GroupState, Observation
from orchestrator.simulation.load import Load, buckets_of
from placement.plan import Plan


class Scalable(Protocol):
    """A simulation under way, as far as an autoscaler's turns need it."""

    @property
    def agenda(self) -> Agenda:
        """What is due."""

    def observe(self, at_s: float) -> Mapping[str, GroupState]:
        """All groups at a time."""

    def resize(self, name: str, wanted: int, at_s: float) -> int:
        """Let a group have so many replicas; how many of them could not be had."""


class Scaling:
    """An autoscaler's turns, one every interval until the last arrival."""

    def __init__(
        self, run: Scalable, plan: Plan, load: Load, autoscaler: Autoscaler, interval_s: float
    ) -> None:
        self._run = run
        self._autoscaler = autoscaler
        self._interval_s = interval_s
        self._arrival_s = load.arrival_s
        self._buckets, self._names = buckets_of(plan, load)
        self._seen = 0
        self._refused: dict[str, int] = {}

    def turn(self, at_s: float) -> None:
        """Ask it once, do as it says, and put down the next turn."""
        seen = int(np.searchsorted(self._arrival_s, at_s))
        counts = np.bincount(self._buckets[self._seen : seen], minlength=len(self._names))
        self._seen = seen
        arrivals = dict(zip(self._names, counts.tolist(), strict=True))
        groups = self._run.observe(at_s)
        now = Observation(at_s, self._interval_s, groups, arrivals, self._refused)
        self._refused = {}
        for name, wanted in self._autoscaler(now).items():
            if short := self._run.resize(name, wanted, at_s):
                self._refused[name] = short
        if at_s + self._interval_s <= self._arrival_s[-1]:
            self._run.agenda.at(at_s + self._interval_s, self.turn)
