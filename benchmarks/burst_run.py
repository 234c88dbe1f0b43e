"""One load policy on one scenario: the production dispatcher before the simulated fleet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_matrix

from benchmarks.burst_fleet import SLO, Fleet, Prompts
from benchmarks.burst_load import Scenario
from orchestrator.simulation.dispatching import simulate_flow
from orchestrator.simulation.load_policy import Always, LoadPolicy, PolicyRouter, Priced
from orchestrator.simulation.load_rules import (
    QueueRule,
    QueueSettings,
    Random,
    Scripted,
    Threshold,
)
from orchestrator.simulation.measures import Measures, measure
from orchestrator.simulation.run import Conditions
from orchestrator.simulator import Ints
from profiler.traces import Trace
from serve_apps.router.loads import LoadGrid

UNBOUNDED = Conditions(queue_factor=float("inf"))
WINDOW_S = 10.0
Build = Callable[["Asked"], LoadPolicy]


@dataclass(frozen=True)
class Asked:
    """One scenario made concrete: the fleet, its requests, and what each model makes of them."""

    fleet: Fleet
    scenario: Scenario
    trace: Trace
    prompts: Prompts
    seed: int


@dataclass(frozen=True)
class Tuned:
    """Parameters found on the tuning part of the traces; see `benchmarks.burst_tuning`."""

    worth_usd: float
    margin: float
    queue: QueueSettings


def run(asked: Asked, build: Build) -> Measures:
    """Judge a policy on a scenario."""
    return _run(asked, lambda _: build(asked))


def run_hindsight(asked: Asked) -> Measures:
    """Of a policy that knows all arrivals, sizes and scores; see `hindsight`."""
    places = hindsight(asked).tolist()
    return _run(asked, lambda router: Scripted(places, lambda: router[0].request))


def _run(asked: Asked, build: Callable[[list[PolicyRouter]], LoadPolicy]) -> Measures:
    fleet = asked.fleet
    shown: list[PolicyRouter] = []
    router = PolicyRouter(fleet.plan, build(shown), asked.prompts.expected)
    shown.append(router)
    timings = simulate_flow(
        fleet.plan, asked.trace, router=router, conditions=UNBOUNDED, seed=asked.seed
    )
    return measure(
        timings,
        SLO,
        scores=asked.prompts.score,
        model_of_group=fleet.model_of_group,
        gpus=fleet.gpus,
        burst_end_s=asked.scenario.burst_end_s,
    )


def large_only(asked: Asked) -> LoadPolicy:
    return Always(asked.fleet.parts[0].model)


def small_only(asked: Asked) -> LoadPolicy:
    return Always(asked.fleet.parts[-1].model)


def priced(worth_usd: float) -> Build:
    return lambda _: Priced(worth_usd)


def threshold(margin: float) -> Build:
    return lambda _: Threshold(margin)


def queue_rule(settings: QueueSettings) -> Build:
    return lambda asked: QueueRule(settings, asked.fleet.full_batch)


def random_mix(mix: tuple[float, ...]) -> Build:
    return lambda asked: Random(mix, asked.seed)


def causal(tuned: Tuned, more: Mapping[str, Build]) -> dict[str, Build]:
    """All policies that need nothing of the others' runs, by name."""
    return {
        "large-only": large_only,
        "small-only": small_only,
        "threshold": threshold(tuned.margin),
        "queue rule": queue_rule(tuned.queue),
        **more,
        "ours": priced(tuned.worth_usd),
    }


def hindsight(asked: Asked) -> Ints:
    """For each request the place of its model in the best assignment known afterwards.

    max sum score x  subject to  each group's load in each 10 s window <= its replica-seconds, each
    request at most once: a linear program over true sizes and scores, rounded; the unassigned
    go to the small model. Replayed by the dispatcher like any other policy, so it is a strong
    reference and not a proven bound: work does not move between windows.
    """
    plan, trace = asked.fleet.plan, asked.trace
    count, models = len(trace), len(asked.fleet.parts)
    load = np.empty((count, models))
    for m, group in enumerate(plan.groups):
        grid = LoadGrid(group.profile, plan.slo)
        load[:, m] = [
            grid(i, o) for i, o in zip(trace.input_tokens, trace.output_tokens, strict=True)
        ]
    able = np.isfinite(load)
    window = (trace.arrival_s // WINDOW_S).astype(int)
    windows = int(window.max()) + 1
    rows, columns = np.nonzero(able)
    variable = np.arange(len(rows))
    limits = coo_matrix(
        (
            np.concatenate([np.ones(len(rows)), load[rows, columns]]),
            (
                np.concatenate([rows, count + columns * windows + window[rows]]),
                np.concatenate([variable, variable]),
            ),
        ),
        shape=(count + models * windows, len(rows)),
    )
    replicas = np.repeat([g.replicas for g in plan.groups], windows)
    most = np.concatenate([np.ones(count), replicas * WINDOW_S])
    worth = asked.prompts.score[rows, columns] - 1e-4 * load[rows, columns]
    sparse: Any = limits.tocsr()  # the stubs know dense matrices only
    found = linprog(-worth - 1e-3, A_ub=sparse, b_ub=most, bounds=(0, 1), method="highs")
    taken = np.zeros((count, models))
    taken[rows, columns] = found.x
    places: Ints = np.where(taken.sum(1) > 0.01, taken.argmax(1), models - 1)
    return places
