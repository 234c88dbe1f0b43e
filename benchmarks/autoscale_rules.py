"""The autoscalers that `benchmarks.autoscale` compares, and what makes each eager."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from benchmarks.autoscale_cases import Draw
from benchmarks.autoscale_tokens import TokenSaturation, Variant
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
LONG_S = 7200.0
BIN_S = 20.0
ALL = "all types"


@dataclass(frozen=True)
class RouterKind:
    """A router: how it is made, and what a controller must know of it.

    Without ``make`` requests go through the production dispatcher itself, request by request.
    """

    make: Callable[[Plan], Router | None] | None
    sheds: bool
    keeps_shares: bool


ROUTERS: dict[str, RouterKind] = {
    "plan": RouterKind(lambda _: None, sheds=False, keeps_shares=True),
    "balanced": RouterKind(Balanced, sheds=False, keeps_shares=False),
    "shedding": RouterKind(lambda plan: Balanced(plan, shed=0.8), sheds=True, keeps_shares=False),
    "flow": RouterKind(None, sheds=True, keeps_shares=False),
}
"""Routers by name: the plan's shares; balanced over the fleet, and engines queue; balanced, and
who finds no room is refused; and production's (`serve_apps.flow`), which queues as long as a
request can still be in time and refuses the rest."""


@dataclass(frozen=True)
class Setting:
    """What a rule is put into: a plan, a load, a router, a cold start, perhaps one GPU type.

    ``pool`` is the plan's; ``width`` how many requests a replica of each group has in hand at its
    highest rate inside the SLO; ``made`` the router, if `simulate` is to have one.
    """

    plan: Plan
    draw: Draw
    router: RouterKind
    cold_s: float
    only: str
    pool: Pool
    width: Mapping[str, float]
    made: Router | None

    @cached_property
    def groups(self) -> list[str]:
        """Names of the groups that may be used."""
        return [n for n in self.pool.groups if self.only in (ALL, n)]

    @cached_property
    def mean_tokens(self) -> tuple[float, float]:
        """Prompt and answer of the mean request planned for."""
        rates = np.array([r.rate_rps for r in self.plan.routes])
        sizes = [(r.bucket.input_tokens, r.bucket.output_tokens) for r in self.plan.routes]
        inputs, outputs = rates @ np.array(sizes) / rates.sum()
        return float(inputs), float(outputs)

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
        """The cheapest fleet for so many times the load of the draw."""
        return fleet_for(self.pool, self.draw, factor, plan_for)


def fleet_for(pool: Pool, draw: Draw, factor: float, plan_for: str = "mean") -> dict[str, int]:
    """The cheapest fleet of a pool for so many times a draw's load."""
    planned = workload_from_trace(draw.trace, plan_for=plan_for).planned_rate_rps  # type: ignore[arg-type]
    mix = pool.planned_rps
    work = pool.work(mix) / float(mix.sum()) * planned
    return dict(zip(pool.groups, cheapest(pool, mix, work * factor).tolist(), strict=True))


def pool_of(plan: Plan, keep_shares: bool, only: str = ALL) -> Pool:
    """The one pool of a plan, perhaps without all GPU types but one."""
    names = [g.name for g in plan.groups]
    most = {} if only == ALL else {n: 0 for n in names if n != only}
    least = dict.fromkeys(names, 1) if keep_shares else {}
    return pools_of(plan, minimum=least, maximum=most, keep_shares=keep_shares)[0]


def width_of(plan: Plan) -> dict[str, float]:
    """See `Setting`."""
    width = Balanced(plan).width
    return {g.name: float(w) for g, w in zip(plan.groups, width, strict=True)}


class Among:
    """A rule that knows some groups only; the others have no replicas."""

    def __init__(self, rule: Autoscaler, setting: Setting) -> None:
        self._rule = rule
        self._others = {n: 0 for n in setting.pool.groups if n not in setting.groups}

    def __call__(self, seen):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN204
        """As the rule says, and none of the others."""
        return {**self._rule(seen), **self._others}


def every(seconds: float, long_s: float) -> Callable[[Setting], float]:
    """A rule's turns: so many seconds, and more on days, to afford them."""
    return lambda setting: long_s if setting.draw.trace.duration_s > LONG_S else seconds


EVERY_20_S, EVERY_10_S, EVERY_2_S = every(20.0, 30.0), every(10.0, 15.0), every(2.0, 6.0)


@dataclass(frozen=True)
class Rule:
    """One autoscaler: ``make(setting, eagerness)``; ``span`` is from the least eager to the most.

    A rule without a span has nothing to tune. ``guess`` is where tuning begins if nothing better
    is known. ``one_type`` tells that it may also be given one GPU type alone, if that serves it
    better.
    """

    make: Callable[[Setting, float], Autoscaler]
    span: tuple[float, float] | None = None
    guess: float = 1.0
    one_type: bool = False
    turn_s: Callable[[Setting], float] = EVERY_20_S


def _targets(setting: Setting, part: float) -> dict[str, float]:
    return {n: max(0.5, part * setting.width[n]) for n in setting.groups}


def _ours(setting: Setting, worth: float) -> Autoscaler:
    return _controller(setting, worth, Season.of(setting.draw.history))


def _ours_new(setting: Setting, worth: float) -> Autoscaler:
    return _controller(setting, worth, None)


def _controller(setting: Setting, worth: float, season: Season | None) -> Autoscaler:
    policy = ScalePolicy(
        miss_worth=worth,
        cold_start_s=setting.cold_s,
        shedding=setting.router.sheds,
        keep_shares=setting.router.keeps_shares,
        minimum=dict.fromkeys(setting.pool.groups, 1) if setting.router.keeps_shares else {},
    )
    return Controller(setting.plan, policy, season=season)


def _knative(setting: Setting, part: float) -> Autoscaler:
    return Among(Knative(_targets(setting, 1 / part)), setting)


def _knative_slow(setting: Setting, part: float) -> Autoscaler:
    """Its window as an operator would set it for replicas that take minutes: ten, panic one."""
    return Among(Knative(_targets(setting, 1 / part), stable_s=600.0, panic_s=60.0), setting)


def _ray(setting: Setting, part: float) -> Autoscaler:
    return Among(RayServe(_targets(setting, 1 / part)), setting)


def _ray_default(setting: Setting, _: float) -> Autoscaler:
    return RayServe(dict.fromkeys(setting.groups, 2.0))


def _wva(setting: Setting, spare: float) -> Autoscaler:
    prices = {g.name: g.usd_per_hour for g in setting.plan.groups if g.name in setting.groups}
    least = 1 if setting.router.keeps_shares else 0
    return Among(Saturation(prices, kv_spare=spare, minimum=least), setting)


def _wva_tokens(setting: Setting, part: float) -> Autoscaler:
    inputs, outputs = setting.mean_tokens
    variants = {
        g.name: Variant.of(g, inputs, outputs)
        for g in setting.plan.groups
        if g.name in setting.groups
    }
    return Among(TokenSaturation(variants, inputs, up=1 / part), setting)


def _floor(setting: Setting, part: float) -> Autoscaler:
    rule = ForecastFloor(setting.pool, setting.width, utilisation=1 / part, react_every_s=10.0)
    return Among(rule, setting)


def _fixed(setting: Setting, factor: float) -> Autoscaler:
    return Fixed(setting.fleet_for(factor))


def _clairvoyant(setting: Setting, worth: float) -> Autoscaler:
    return Clairvoyant(setting.pool, setting.rates, BIN_S, setting.cold_s, miss_worth=worth)


RULES: Mapping[str, Rule] = {
    "clairvoyant": Rule(_clairvoyant, (1.02, 300.0), 3.0),
    "ours": Rule(_ours, (1.05, 1500.0), 4.0),
    "knative": Rule(_knative, (0.4, 16.0), 2.5, one_type=True, turn_s=EVERY_2_S),
    "wva": Rule(_wva, (0.02, 0.79), 0.55, one_type=True, turn_s=EVERY_10_S),
    "dynamo-like": Rule(_floor, (0.4, 16.0), 1.5, one_type=True, turn_s=EVERY_10_S),
    "wva-tokens": Rule(_wva_tokens, (1.0, 40.0), 4.0, one_type=True, turn_s=EVERY_10_S),
    "knative-10min": Rule(_knative_slow, (0.4, 16.0), 2.5, one_type=True, turn_s=EVERY_10_S),
    "ray-tuned": Rule(_ray, (0.4, 16.0), 2.5, one_type=True, turn_s=EVERY_10_S),
    "fixed-tuned": Rule(_fixed, (0.3, 16.0), 1.3),
    "ours-no-history": Rule(_ours_new, (1.05, 1500.0), 4.0),
    "knative-70": Rule(lambda s, _: _knative(s, 1 / 0.7), turn_s=EVERY_2_S),
    "wva-default": Rule(lambda s, _: _wva(s, 0.1), turn_s=EVERY_10_S),
    "ray-default": Rule(_ray_default, turn_s=EVERY_10_S),
    "fixed-mean": Rule(lambda s, _: Fixed(s.fleet_for(1 / 0.85))),
    "fixed-peak": Rule(lambda s, _: Fixed(s.fleet_for(1 / 0.85, "max"))),
}
"""By name, the most telling first. What a rule's publisher gives as its figures is kept (its
windows, steps, delays); the one figure that says how eager it is is tuned, but for ``-70`` and
``-default``: as documented."""
