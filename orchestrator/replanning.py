"""The plan again, from the fleet that runs and for the load that is forecast; in its own process.

Two fleets are solved for the same load: the cheapest of all that the service may rent, and the
cheapest of the running plan's own groups, where its autoscaler would go by itself. Both pay for
their moves. What lies between them is what the new plan saves.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from orchestrator.autoscale.market import Market
from orchestrator.autoscale.pools import Bucket
from orchestrator.loading import LoadedService, load_service
from orchestrator.planning import build_problem
from placement.limits import Switching
from placement.plan import Plan
from placement.planner import Mix, mix, without_unservable
from placement.problem import Problem, RequestClass, Stock
from placement.solution import Solution
from profiler.errors import InfeasibleError, InputError

LEAST_SHARE = 1e-4
"""Of all requests: what has not been seen of late is planned for with so many, so that it keeps a
route."""
GAP = 1e-3
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Ask:
    """What to plan for.

    ``rates_rps`` is the load by (stream, bucket key); ``running`` replicas by group; ``out`` names
    groups of which no more can be had. Replicas are filled up to ``headroom``. The new plan stands
    for ``horizon_h``.
    """

    service: Path
    plan: Plan
    rates_rps: Mapping[Bucket, float]
    running: Mapping[str, int]
    out: tuple[str, ...] = ()
    headroom: float = 1.0
    cold_s: float = 104.0
    drain_s: float = 30.0
    horizon_h: float = 4.0
    time_limit_s: float = 20.0


@dataclass(frozen=True)
class Answer:
    """The new plan, and what it saves.

    Rents are of the fleets, ``moving_usd`` what each costs to move to. ``stay_usd_per_hour`` is
    None where the plan's own groups cannot carry the load.
    """

    plan: Plan
    usd_per_hour: float
    moving_usd: float
    stay_usd_per_hour: float | None
    stay_moving_usd: float
    horizon_h: float

    @property
    def saving_usd(self) -> float:
        """Over the horizon, moves paid; infinite where staying carries too little."""
        if self.stay_usd_per_hour is None:
            return float("inf")
        rent = (self.stay_usd_per_hour - self.usd_per_hour) * self.horizon_h
        return rent + self.stay_moving_usd - self.moving_usd

    @property
    def saving_usd_per_hour(self) -> float:
        """The same, an hour."""
        return self.saving_usd / self.horizon_h


def survey(service: Path, plan: Plan) -> Market:
    """What requests cost on all that the service may rent.

    Raises:
        InputError: the service file is wrong, or not that of the plan.
    """
    problem = _problem(service, plan.service)
    usd = problem.load_s * np.array([o.usd_per_hour / 3600 for o in problem.options])
    names = [(c.stream, c.bucket.key) for c in problem.classes]
    return Market(
        model={o.name: o.model for o in problem.options},
        place={o.name: str(o.pool) for o in problem.options},
        request_usd={
            o.name: {n: float(v) for n, v in zip(names, usd[:, j], strict=True) if np.isfinite(v)}
            for j, o in enumerate(problem.options)
        },
    )


def replan(ask: Ask) -> Answer | None:
    """The cheapest plan for what is asked; None where none can carry it.

    Raises:
        InputError: the service file is wrong, or not that of the plan; no answer in time.
    """
    problem = _for_load(_problem(ask.service, ask.plan.service), ask)
    try:
        best = _solved(problem, ask)
    except InfeasibleError:
        return None
    own = {g.name for g in ask.plan.groups}
    kept = [j for j, o in enumerate(problem.options) if o.name in own]
    stay: Solution | None = None
    with contextlib.suppress(InfeasibleError):
        stay = _solved(problem.part(options=kept), ask).solution if kept else None
    return Answer(
        plan=_deployable(best.plan, ask.plan),
        usd_per_hour=best.solution.usd_per_hour,
        moving_usd=_moving_usd(best.problem, best.solution, ask),
        stay_usd_per_hour=None if stay is None else stay.usd_per_hour,
        stay_moving_usd=0.0 if stay is None else _moving_usd(problem.part(options=kept), stay, ask),
        horizon_h=ask.horizon_h,
    )


def in_worker() -> None:
    """Let requests and turns go first, and end with whoever asked: for the process that solves."""
    os.nice(10)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to answer
    with contextlib.suppress(OSError, AttributeError):  # Linux only
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@lru_cache(maxsize=1)
def _built(service: Path, _changed_ns: int) -> tuple[LoadedService, Problem]:
    loaded = load_service(service)
    return loaded, build_problem(loaded)


def _problem(service: Path, name: str) -> Problem:
    try:
        changed_ns = service.stat().st_mtime_ns
    except OSError:
        raise InputError(f"{service}: no such file") from None
    loaded, problem = _built(service, changed_ns)
    if loaded.service.name != name:
        raise InputError(
            f"{service}: found the service {loaded.service.name!r}, expected {name!r}, whose plan "
            "is deployed"
        )
    return problem


def _for_load(problem: Problem, ask: Ask) -> Problem:
    """The service's problem with this load, these moves, and no more of what is out of stock."""
    dearest = max(o.usd_per_hour for o in problem.options)
    moves = Switching(
        running=dict(ask.running),
        start_usd=dearest * ask.cold_s / 3600,
        stop_usd=dearest * ask.drain_s / 3600,
        horizon_h=ask.horizon_h,
    )
    return replace(
        problem,
        classes=_classes(problem, ask),
        stocks=_stocks(problem, ask),
        limits=replace(problem.limits, switching=moves),
    )


def _classes(problem: Problem, ask: Ask) -> tuple[RequestClass, ...]:
    """Each bucket's rate of late, divided over its classes (by difficulty) as at first."""
    planned: dict[Bucket, float] = {}
    for c in problem.classes:
        key = (c.stream, c.bucket.key)
        planned[key] = planned.get(key, 0.0) + c.rate_rps
    least = LEAST_SHARE * max(sum(ask.rates_rps.values()), sum(planned.values()))
    fill = problem.headroom / ask.headroom
    return tuple(
        replace(c, rate_rps=fill * max(ask.rates_rps.get(key, 0.0), least) * c.rate_rps / whole)
        for c in problem.classes
        for key in [(c.stream, c.bucket.key)]
        for whole in [planned[key]]
    )


def _stocks(problem: Problem, ask: Ask) -> tuple[Stock, ...]:
    """Of what is out of stock there is what runs."""
    gone = {o.pool for o in problem.options if o.name in ask.out}
    used = dict.fromkeys(gone, 0)
    for o in problem.options:
        if o.pool in gone:
            used[o.pool] += o.slot_gpus * ask.running.get(o.name, 0)
    return tuple(
        replace(s, available=min(used[s.pool], s.available or used[s.pool]))
        if s.pool in gone
        else s
        for s in problem.stocks
    )


def _solved(problem: Problem, ask: Ask) -> Mix:
    return mix(
        without_unservable(problem), ask.plan.service, time_limit_s=ask.time_limit_s, gap=GAP
    )


def _moving_usd(problem: Problem, found: Solution, ask: Ask) -> float:
    """Rent of replicas that start or drain, each at its own price."""
    price = {g.name: g.usd_per_hour for g in ask.plan.groups}
    price |= {o.name: o.usd_per_hour for o in problem.options}
    then = {o.name: int(n) for o, n in zip(problem.options, found.replicas, strict=True) if n}
    total = 0.0
    for name in {*ask.running, *then}:
        more = then.get(name, 0) - ask.running.get(name, 0)
        seconds = more * ask.cold_s if more > 0 else -more * ask.drain_s
        total += seconds / 3600 * price.get(name, 0.0)
    return total


def _deployable(found: Plan, running: Plan) -> Plan:
    """With the front door, the targets and the router's artefact of the plan that runs."""
    router = running.router if found.router is not None else None
    return found.model_copy(
        update={"gateway": running.gateway, "targets": running.targets, "router": router}
    )
