"""The autoscalers that `benchmarks.autoscale` compares, and what makes each eager."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from benchmarks.autoscale_cases import Draw
from orchestrator.autoscale.baselines.clairvoyant import Clairvoyant
from orchestrator.autoscale.baselines.concurrency import Knative, RayServe
from orchestrator.autoscale.baselines.fixed import Fixed, cheapest
from orchestrator.autoscale.baselines.floor import ForecastFloor
from orchestrator.autoscale.baselines.saturation import Saturation
from orchestrator.autoscale.controller import Controller, ScalePolicy
from orchestrator.autoscale.pools import Pool, pools_of
from orchestrator.autoscale.season import Season
from orchestrator.simulation.balanced import Balanced
from orchestrator.simulation.events import Autoscaler
from orchestrator.simulation.load import buckets_of, load_of
from placement.plan import Plan
from profiler.workload import workload_from_trace
from serve_apps.router.base import Router

Floats = NDArray[np.float64]
TURN_S = 20.0
KNATIVE_TURN_S = 2.0
KNATIVE_TURN_DAY_S = 6.0
BIN_S = 20.0
ALL = "all types"


@dataclass(frozen=True)
class RouterKind:
    """A router: how it is made, and what a controller must know of it."""

    make: Callable[[Plan], Router | None]
    sheds: bool
    keeps_shares: bool


ROUTERS: dict[str, RouterKind] = {
    "plan": RouterKind(lambda _: None, sheds=False, keeps_shares=True),
    "balanced": RouterKind(Balanced, sheds=False, keeps_shares=False),
    "shedding": RouterKind(lambda plan: Balanced(plan, shed=0.8), sheds=True, keeps_shares=False),
}
"""Routers by name; a data plane's own router is one more line here."""


@dataclass(frozen=True)
class Setting:
    """What a rule is put into: a plan, a load, a router, a cold start, perhaps one GPU type."""

    plan: Plan
    draw: Draw
    router: RouterKind
    cold_s: float
    only: str = ALL

    @cached_property
    def pool(self) -> Pool:
        """The one pool of the plan."""
        names = [g.name for g in self.plan.groups]
        most = {} if self.only == ALL else {n: 0 for n in names if n != self.only}
        least = dict.fromkeys(names, 1) if self.router.keeps_shares else {}
        keep = self.router.keeps_shares
        return pools_of(self.plan, minimum=least, maximum=most, keep_shares=keep)[0]

    @cached_property
    def groups(self) -> list[str]:
        """Names of the groups that may be used."""
        return [n for n in self.pool.groups if self.only in (ALL, n)]

    @cached_property
    def width(self) -> dict[str, float]:
        """Requests that a replica of each group has in hand at its highest rate."""
        width = Balanced(self.plan).width
        return {g.name: float(w) for g, w in zip(self.plan.groups, width, strict=True)}

    @cached_property
    def rates(self) -> Floats:
        """Requests per second that do arrive, ``[bins, classes]``."""
        load = load_of(self.plan, self.draw.trace)
        found, names = buckets_of(self.plan, load)
        order = [self.pool.classes.index(n) for n in names]
        bins = (load.arrival_s / BIN_S).astype(np.int64)
        size = len(self.pool.classes)
        cells = bins * size + np.array(order)[found]
        counts = np.bincount(cells, minlength=(int(bins[-1]) + 1) * size)
        return counts.reshape(-1, size) / BIN_S

    def fleet_for(self, factor: float, plan_for: str = "mean") -> dict[str, int]:
        """The cheapest fleet for so many times the load planned for."""
        planned = workload_from_trace(self.draw.trace, plan_for=plan_for).planned_rate_rps  # type: ignore[arg-type]
        mix = self.pool.planned_rps
        work = self.pool.work(mix) / float(mix.sum()) * planned
        found = cheapest(self.pool, mix, work * factor)
        return dict(zip(self.pool.groups, found.tolist(), strict=True))


class Among:
    """A rule that knows some groups only; the others have no replicas."""

    def __init__(self, rule: Autoscaler, setting: Setting) -> None:
        self._rule = rule
        self._others = {n: 0 for n in setting.pool.groups if n not in setting.groups}

    def __call__(self, seen):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN204
        """As the rule says, and none of the others."""
        return {**self._rule(seen), **self._others}


def _turn_s(setting: Setting) -> float:
    return 30.0 if setting.draw.trace.duration_s > 7200 else TURN_S


@dataclass(frozen=True)
class Rule:
    """One autoscaler: ``make(setting, eagerness)``; ``span`` is from the least eager to the most.

    A rule without a span has nothing to tune. ``one_type`` tells that it may also be given one
    GPU type alone, if that serves it better.
    """

    make: Callable[[Setting, float], Autoscaler]
    span: tuple[float, float] | None
    one_type: bool = False
    turn_s: Callable[[Setting], float] = _turn_s


def _targets(setting: Setting, part: float) -> dict[str, float]:
    return {n: max(0.5, part * setting.width[n]) for n in setting.groups}


def _ours(setting: Setting, worth: float) -> Autoscaler:
    policy = ScalePolicy(
        miss_worth=worth,
        cold_start_s=setting.cold_s,
        shedding=setting.router.sheds,
        keep_shares=setting.router.keeps_shares,
        minimum=dict.fromkeys(setting.pool.groups, 1) if setting.router.keeps_shares else {},
    )
    return Controller(setting.plan, policy, season=Season.of(setting.draw.history))


def _knative(setting: Setting, part: float) -> Autoscaler:
    return Among(Knative(_targets(setting, 1 / part)), setting)


def _ray(setting: Setting, part: float) -> Autoscaler:
    return Among(RayServe(_targets(setting, 1 / part)), setting)


def _ray_default(setting: Setting, _: float) -> Autoscaler:
    return RayServe(dict.fromkeys(setting.groups, 2.0))


def _wva(setting: Setting, spare: float) -> Autoscaler:
    prices = {g.name: g.usd_per_hour for g in setting.plan.groups if g.name in setting.groups}
    least = 1 if setting.router.keeps_shares else 0
    return Among(Saturation(prices, kv_spare=spare, minimum=least), setting)


def _floor(setting: Setting, part: float) -> Autoscaler:
    return Among(ForecastFloor(setting.pool, setting.width, utilisation=1 / part), setting)


def _fixed(setting: Setting, factor: float) -> Autoscaler:
    return Fixed(setting.fleet_for(factor))


def _clairvoyant(setting: Setting, worth: float) -> Autoscaler:
    return Clairvoyant(setting.pool, setting.rates, BIN_S, setting.cold_s, miss_worth=worth)


def _knative_turn_s(setting: Setting) -> float:
    return KNATIVE_TURN_DAY_S if setting.draw.trace.duration_s > 7200 else KNATIVE_TURN_S


RULES: Mapping[str, Rule] = {
    "ours": Rule(_ours, (1.05, 1500.0)),
    "knative": Rule(_knative, (0.4, 16.0), one_type=True, turn_s=_knative_turn_s),
    "wva": Rule(_wva, (0.02, 0.79), one_type=True),
    "dynamo-like": Rule(_floor, (0.4, 16.0), one_type=True),
    "ray-tuned": Rule(_ray, (0.4, 16.0), one_type=True, turn_s=lambda _: 10.0),
    "ray-default": Rule(_ray_default, None, turn_s=lambda _: 10.0),
    "fixed-tuned": Rule(_fixed, (0.3, 16.0)),
    "fixed-mean": Rule(lambda s, _: Fixed(s.fleet_for(1 / 0.85)), None),
    "fixed-peak": Rule(lambda s, _: Fixed(s.fleet_for(1 / 0.85, "max")), None),
    "clairvoyant": Rule(_clairvoyant, (1.02, 300.0)),
}
