"""One rule on a case's draws, as `benchmarks.autoscale` judges it."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from benchmarks.autoscale_cases import GPUS, GPUS_DAY, Draw, cases, fleet_plan
from benchmarks.autoscale_rules import (
    ALL,
    ROUTERS,
    RULES,
    Rule,
    Setting,
    fleet_for,
    pool_of,
    width_of,
)
from orchestrator.autoscale.pools import Pool
from orchestrator.judging import met
from orchestrator.simulation.dispatching import simulate_flow
from orchestrator.simulation.events import Autoscaler, Observation
from orchestrator.simulation.result import FleetTimings, Outcome
from orchestrator.simulation.run import Conditions, simulate
from placement.plan import Plan
from serve_apps.router.base import Router

ASKED = 0.95
FLAP_S = 600.0
WARM_S = 600.0
"""The part of every run that is not judged: all begin with a fleet for the mean load, and who looks
every three minutes is not to pay for that."""
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Job:
    """One rule in one case, behind one router, at one cold start."""

    case: str
    router: str
    rule: str
    cold_s: float


@dataclass(frozen=True)
class Fared:
    """How a fleet fared: means over the draws; ``quality`` is the share answered at all."""

    usd_per_hour: float
    attainment: float
    quality: float
    usd_per_1k: float
    recovery_s: float | None
    flaps_per_hour: float


class Watched:
    """An autoscaler whose wishes are written down."""

    def __init__(self, rule: Autoscaler) -> None:
        self._rule = rule
        self._moves: dict[str, list[tuple[float, int]]] = defaultdict(list)

    def __call__(self, seen: Observation) -> Mapping[str, int]:
        """As the rule says."""
        wanted = self._rule(seen)
        for name, count in wanted.items():
            if count != seen.groups[name].staying:
                direction = 1 if count > seen.groups[name].staying else -1
                self._moves[name].append((seen.time_s, direction))
        return wanted

    @property
    def flaps(self) -> int:
        """Changes of direction within ten minutes."""
        return sum(
            a[1] != b[1] and b[0] - a[0] <= FLAP_S and a[0] >= WARM_S
            for moves in self._moves.values()
            for a, b in itertools.pairwise(moves)
        )


@cache
def draws_of(case: str, judging: bool) -> tuple[Draw, ...]:
    """A case's draws; a process keeps them."""
    return tuple(cases()[case].draws(judging))


@cache
def plan_of(case: str) -> Plan:
    """Planned for what the case is tuned on; its replicas are those that every rule begins with.

    They are the cheapest that carry the mean load, and one of each type at least.
    """
    draw = draws_of(case, False)[0]
    plan = fleet_plan(draw.trace, GPUS_DAY if cases()[case].long else GPUS)
    first = fleet_for(pool_of(plan, keep_shares=False), draw, 1.0)
    groups = tuple(g.model_copy(update={"replicas": max(1, first[g.name])}) for g in plan.groups)
    return plan.model_copy(update={"groups": groups})


@cache
def settings_of(case: str, router: str, cold_s: float, only: str, judging: bool) -> list[Setting]:
    """What a rule is put into, one setting a draw; production's dispatcher gets one draw."""
    kind, pool = ROUTERS[router], _pool(case, ROUTERS[router].keeps_shares, only)
    parts = (kind, cold_s, only, pool, _width(case), _made(case, router))
    draws = draws_of(case, judging)[: None if kind.make else 1]
    return [Setting(plan_of(case), draw, *parts) for draw in draws]


@cache
def _pool(case: str, keep_shares: bool, only: str) -> Pool:
    return pool_of(plan_of(case), keep_shares, only)


@cache
def _width(case: str) -> dict[str, float]:
    return width_of(plan_of(case))


@cache
def _made(case: str, router: str) -> Router | None:
    make = ROUTERS[router].make
    return make(plan_of(case)) if make else None


def alone(job: Job) -> list[str]:
    """The GPU types that a rule may be given alone."""
    if not RULES[job.rule].one_type or ROUTERS[job.router].keeps_shares:
        return []
    return [g.name for g in plan_of(job.case).groups]


def fare(job: Job, eagerness: float, only: str = ALL, *, judging: bool) -> Fared:
    """A rule on all draws of one kind."""
    settings = settings_of(job.case, job.router, job.cold_s, only, judging)
    found = [run_once(RULES[job.rule], eagerness, s) for s in settings]
    recoveries = [f.recovery_s for f in found if f.recovery_s is not None]
    return Fared(
        usd_per_hour=float(np.mean([f.usd_per_hour for f in found])),
        attainment=float(np.mean([f.attainment for f in found])),
        quality=float(np.mean([f.quality for f in found])),
        usd_per_1k=float(np.mean([f.usd_per_1k for f in found])),
        recovery_s=max(recoveries) if recoveries else None,
        flaps_per_hour=float(np.mean([f.flaps_per_hour for f in found])),
    )


def run_once(rule: Rule, eagerness: float, setting: Setting) -> Fared:
    """One simulation."""
    scaler = Watched(rule.make(setting, eagerness))
    found = _simulated(setting, scaler, rule.turn_s(setting))
    good = met(setting.plan, found).both
    judged = found.arrival_s >= WARM_S
    hours = (float(found.arrival_s[-1]) - WARM_S) / 3600
    usd = _rent_usd(setting.plan, found, WARM_S)
    end_s = setting.draw.spike_end_s
    return Fared(
        usd_per_hour=usd / hours,
        attainment=float(good[judged].mean()),
        quality=float((found.outcome[judged] == Outcome.OK).mean()),
        usd_per_1k=usd / int(judged.sum()) * 1000,
        recovery_s=None if end_s is None else recovery_s(found, good, end_s),
        flaps_per_hour=scaler.flaps / hours,
    )


def _rent_usd(plan: Plan, found: FleetTimings, since_s: float) -> float:
    price = {g.name: g.usd_per_hour / 3600 for g in plan.groups}
    lives = [(r.group, r.ended_s - max(r.started_s, since_s)) for r in found.replicas]
    return sum(price[group] * max(0.0, paid_s) for group, paid_s in lives)


def _simulated(setting: Setting, scaler: Autoscaler, turn_s: float) -> FleetTimings:
    plan, trace, kind = setting.plan, setting.draw.trace, setting.router
    conditions = Conditions(cold_start_s=setting.cold_s)
    if kind.make is None:
        return simulate_flow(
            plan, trace, autoscaler=scaler, interval_s=turn_s, conditions=conditions
        )
    return simulate(
        plan,
        trace,
        router=setting.made,
        autoscaler=scaler,
        interval_s=turn_s,
        conditions=conditions,
    )


def recovery_s(found: FleetTimings, good: Bools, end_s: float) -> float:
    """From a time until, for 60 s, 95 % of the requests of every next 30 s meet the SLO.

    To the last arrival where that never comes.
    """
    arrival_s = found.arrival_s
    kept = np.concatenate([[0], np.cumsum(good)])
    since = None
    for at_s in np.arange(end_s, float(arrival_s[-1]) - 30.0, 1.0):
        low, high = np.searchsorted(arrival_s, [at_s, at_s + 30.0])
        if kept[high] - kept[low] >= ASKED * (high - low):
            since = at_s if since is None else since
            if at_s - since >= 60.0:
                return float(since - end_s)
        else:
            since = None
    return float(arrival_s[-1]) - end_s
