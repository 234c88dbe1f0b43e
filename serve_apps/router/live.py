"""The price of load now: the plan's, and more where a group is asked for more than it can do."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from placement.plan import Plan
from serve_apps.router.base import RouteRequest
from serve_apps.router.pricing import LivePrice

TICK_S = 1.0
TARGET = 1.0
"""Prices rise above saturation inside the SLO. The headroom below it is there for chance."""
MOST_GAIN_PER_S = 0.2
"""Half as much again as a group can do doubles its price in about seven seconds, at most."""
USUAL_RISE = 0.05
"""What the queue that chance brings at the planned load adds to log(price / rent), in mean."""
LET_PASS = 10 * USUAL_RISE
"""So much does not count: a queue of ten times the mean comes by chance once in e^10 times."""

STRAIN_GAIN = 5.0
"""log(price / rent) where a request waits as long for a slot as the SLO's TTFT allows: a price
at which nobody goes whom another model can serve, and half way there one of twelve rents."""
MOST_FELT = 12.0
"""So much at most; beyond it every price says no."""
DRAINED_S = 5.0
"""A reckoned queue that is not to be seen is forgotten at this time constant."""


class LoadView(Protocol):
    """Who knows what is in flight and what waits."""

    def strain(self, group: str) -> float:
        """The predicted wait for a slot over the SLO's TTFT; 0 while there is room."""


@runtime_checkable
class FlowView(LoadView, Protocol):
    """The dispatcher, as routers see it."""

    @property
    def arrived(self) -> int:
        """Requests so far."""

    @property
    def gateways(self) -> int:
        """How many like this one share the engines, each with its part of the requests."""

    def now(self) -> float:
        """The time in seconds."""

    def begins_in_s(self, asked: RouteRequest, group: str) -> tuple[float, float]:
        """Predicted seconds to the first token in a group, queue included, and on an idle engine
        of it; the first is infinite where no engine is left.
        """

    def occupancy(self, group: str) -> tuple[int, int, int]:
        """In flight, queued, and what the group's open engines hold at most."""


class LivePrices:
    """Per group, dollars per hour for one replica kept at saturation: the plan's and today's.

    Load is counted as work is handed out, so a price is e to the work that a group was given
    beyond what it could do so far: a queue that is reckoned, not seen. How steeply it rises follows
    from the queue that Poisson arrivals bring at the planned load anyway (M/D/1, mean
    rho * s / (2 (1 - rho))): groups of many small requests react within seconds, a single slow
    replica later.

    Where a `LoadView` tells what truly waits, the price follows that at once, and a reckoned queue
    that is not there is soon forgotten. So a burst is felt with its first queue, and who was
    moved by the price comes back when the queue is gone.
    """

    def __init__(self, plan: Plan, clock: Callable[[], float]) -> None:
        told = plan.prices.load if plan.prices else {}
        rent = {g.name: g.usd_per_hour / plan.headroom for g in plan.groups}
        self.planned = {name: told.get(name, price) for name, price in rent.items()}
        self._calm = True
        self._view: LoadView | None = None
        self.flow: FlowView | None = None
        """The view, where it tells more than prices need."""
        self._rent = rent
        self._replicas = {g.name: g.replicas for g in plan.groups}
        self._live = {
            name: LivePrice(self.planned[name], base=rent[name], target=TARGET, gain_per_s=gain)
            for name, gain in _gains(plan).items()
        }
        self._now = dict(self.planned)
        self._work_s = dict.fromkeys(rent, 0.0)
        self._clock = clock
        self._last_s = clock()

    def now(self, group: str) -> float:
        """The group's price now."""
        strain = self._view.strain(group) if self._view is not None else 0.0
        if not strain:
            return self._now[group]
        felt = math.expm1(min(STRAIN_GAIN * strain, MOST_FELT))
        return max(self._now[group], self.planned[group] + self._rent[group] * felt)

    def current(self) -> tuple[Mapping[str, float], bool]:
        """Every group's price now, as `now` has it, and whether it is the plan's: see `calm`."""
        view = self._view
        if view is None or not any(map(view.strain, self._now)):
            return self._now, self._calm
        return {name: self.now(name) for name in self._now}, False

    @property
    def calm(self) -> bool:
        """Whether every group's price is the plan's."""
        if not self._calm or self._view is None:
            return self._calm
        return not any(map(self._view.strain, self._now))

    def heed(self, view: LoadView) -> None:
        """Follow what truly waits from now on."""
        self._view = view
        self.flow = view if isinstance(view, FlowView) else None

    def add(self, group: str, load_s: float) -> None:
        """A request that takes so many replica-seconds went to the group."""
        if math.isfinite(load_s):
            self._work_s[group] += load_s

    def tick(self) -> None:
        """Let time pass: once a second prices follow the work handed out since."""
        elapsed = self._clock() - self._last_s
        if elapsed < TICK_S:
            return
        self._last_s += elapsed
        for name, live in self._live.items():
            utilisation = self._work_s[name] / (elapsed * self._replicas[name])
            if self._view is not None and not self._view.strain(name):
                live.relax(math.exp(-elapsed / DRAINED_S))
            self._now[name] = self._beyond_chance(name, live.observe(utilisation, elapsed))
            self._work_s[name] = 0.0
        self._calm = all(now <= self.planned[name] for name, now in self._now.items())

    def _beyond_chance(self, name: str, price: float) -> float:
        planned, rent = self.planned[name], self._rent[name]
        times = (1 + (price - planned) / rent) * math.exp(-LET_PASS)
        return planned + rent * max(times - 1, 0.0)


def _gains(plan: Plan) -> dict[str, float]:
    """Per second of work beyond what a group can do, by how much log(price / rent) rises."""
    rate = {g.name: 0.0 for g in plan.groups}
    for route in plan.routes:
        for name, share in route.shares.items():
            rate[name] += share * route.rate_rps
    spare = max(1 - plan.headroom, 0.05)
    gains = {}
    for g in plan.groups:
        each_s = g.load / rate[g.name] if rate[g.name] else 1.0
        usual_s = max(plan.headroom * each_s / (2 * spare), 1e-9)
        gains[g.name] = min(MOST_GAIN_PER_S, USUAL_RISE / usual_s)
    return gains
