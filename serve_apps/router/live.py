"""The price of load now: the plan's, and more where a group is asked for more than it can do."""

from __future__ import annotations

import math
from collections.abc import Callable

from placement.plan import Plan
from serve_apps.router.pricing import LivePrice

WINDOW_S = 30.0
TICK_S = 1.0
TARGET = 1.0
"""Prices rise above saturation inside the SLO. The headroom below it is there for chance."""


class LivePrices:
    """Per group, dollars per hour for one replica kept at saturation: the plan's and today's.

    Load is counted as work is handed out: replica-seconds over the last half minute, by replicas.
    """

    def __init__(self, plan: Plan, clock: Callable[[], float]) -> None:
        told = plan.prices.load if plan.prices else {}
        rent = {g.name: g.usd_per_hour / plan.headroom for g in plan.groups}
        self.planned = {name: told.get(name, price) for name, price in rent.items()}
        self.calm = True
        self._replicas = {g.name: g.replicas for g in plan.groups}
        self._live = {
            name: LivePrice(self.planned[name], base=rent[name], target=TARGET) for name in rent
        }
        self._now = dict(self.planned)
        self._work_s = dict.fromkeys(rent, 0.0)
        self._clock = clock
        self._last_s = clock()

    def now(self, group: str) -> float:
        """The group's price now."""
        return self._now[group]

    def raised(self, group: str) -> bool:
        """Whether it is above the plan's."""
        return self._now[group] > self.planned[group]

    def utilisation(self, group: str) -> float:
        """Work handed out lately over what the group can do inside the SLO."""
        return self._work_s[group] / (WINDOW_S * self._replicas[group])

    def add(self, group: str, load_s: float) -> None:
        """A request that takes so many replica-seconds went to the group."""
        if math.isfinite(load_s):
            self._work_s[group] += load_s

    def tick(self) -> None:
        """Let time pass: once a second prices follow the load."""
        elapsed = self._clock() - self._last_s
        if elapsed < TICK_S:
            return
        self._last_s += elapsed
        fade = math.exp(-elapsed / WINDOW_S)
        for name, live in self._live.items():
            self._work_s[name] *= fade
            # However long nobody asked, a price moves by no more than a window's worth.
            self._now[name] = live.observe(self.utilisation(name), min(elapsed, WINDOW_S))
        self.calm = not any(self.raised(name) for name in self._now)
