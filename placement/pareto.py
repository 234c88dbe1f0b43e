"""Cost against one limit: the cheapest plan at each of several settings of it.

Every point is what planning at that setting gives, but for a budget: over quality there is none, as
the curve says what each budget buys; over latency the points are of the best quality that it buys.
A stricter latency target may leave out requests that a looser one serves (within what the SLO
forgives); points say how many. Among points that serve the same requests the cost, of rent and
moves, never rises as the limit loosens: what keeps a stricter limit keeps a looser one, so where a
solver's gap would say otherwise the stricter point's fleet stands in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from placement.explanation import Pareto, ParetoPoint
from placement.ilp import solve
from placement.moved import with_quality, with_slo
from placement.plan import AUTO
from placement.planner import without_unservable
from placement.prices import qualities, quality_rows, row_quality
from placement.problem import Option, Problem, lost_share
from placement.solution import Solution
from placement.solver import TimeLimitError
from profiler.core import Slo
from profiler.errors import InfeasibleError, InputError

Over = Literal["quality", "ttft", "tpot"]
UNITS: dict[Over, str] = {"quality": "mean quality", "ttft": "s", "tpot": "s"}
SPAN = 4.0
"""Latency targets from a quarter of what is asked to four times it."""

Step = Callable[[str], None]
Solver = Callable[[Problem], Solution]


def pareto(
    problem: Problem,
    over: Over,
    points: int = 9,
    *,
    time_limit_s: float = 30.0,
    gap: float = 1e-4,
    on_step: Step = lambda _: None,
) -> Pareto:
    """The cheapest plan at ``points`` settings of one limit and at the one asked, strictest first.

    ``problem`` is as `placement.planner.make_plan` takes it. Settings without a plan are kept,
    with the reason.

    Raises:
        InputError: there is nothing to vary, such as quality with one model.
    """

    def best(p: Problem) -> Solution:
        return solve(p, time_limit_s=time_limit_s, gap=gap, lp_bound=False)

    if over == "quality":  # what each quality costs says what a budget buys
        problem = replace(problem, limits=replace(problem.limits, budget_usd_per_hour=None))
        values, asked = _quality_settings(problem, points, best)
    else:
        values, asked = _latency_settings(problem.slo, over, points)
    by_cost = problem.limits.budget_usd_per_hour is None
    found: list[ParetoPoint] = []
    for value in values:
        on_step(f"{over} {value:g}")
        point = _point(_set(problem, over, value), value, best)
        point = _no_dearer(point, found) if by_cost else point
        found.append(point.model_copy(update={"asked": value == asked}))
    return Pareto(over=over, unit=UNITS[over], points=tuple(found))


def _set(problem: Problem, over: Over, value: float) -> Problem:
    if over == "quality":
        return with_quality(problem, AUTO, value)
    return with_slo(problem, lambda slo: slo.model_copy(update={f"{over}_s": value}), own_too=False)


def _point(problem: Problem, value: float, best: Solver) -> ParetoPoint:
    try:
        problem = without_unservable(problem)
        found = best(problem)
    except (InfeasibleError, TimeLimitError) as error:
        return ParetoPoint(value=value, reason=str(error))
    replicas = zip(problem.options, found.replicas.tolist(), strict=True)
    rented = [(o, n) for o, n in replicas if n]
    return ParetoPoint(
        value=value,
        usd_per_hour=round(found.usd_per_hour, 6),
        switching_usd_per_hour=round(found.switching_usd_per_hour, 6),
        quality=None if found.quality is None else round(min(found.quality, 1.0), 6),
        lower_bound_usd_per_hour=round(found.lower_bound_usd_per_hour, 6),
        replicas={o.name: n for o, n in rented},
        gpus=_gpus(rented),
        excluded_share=round(lost_share(problem), 6),
    )


def _gpus(rented: Sequence[tuple[Option, int]]) -> dict[str, int]:
    count: dict[str, int] = {}
    for option, n in rented:
        count[option.gpu] = count.get(option.gpu, 0) + n * option.gpus
    return count


def _no_dearer(point: ParetoPoint, stricter: list[ParetoPoint]) -> ParetoPoint:
    """The point, or the cheapest stricter fleet that serves the same requests, where it costs less.

    Where more requests are left out the rest is held to a stricter share, so loads are not
    comparable and nothing stands in.
    """
    same = [
        s
        for s in stricter
        if s.usd_per_hour is not None and s.excluded_share == point.excluded_share
    ]
    cheapest = min(same, key=_cost, default=None)
    if cheapest is None or (point.usd_per_hour is not None and _cost(point) <= _cost(cheapest)):
        return point
    bound = point.lower_bound_usd_per_hour
    kept = cheapest.lower_bound_usd_per_hour if bound is None else bound
    return cheapest.model_copy(update={"value": point.value, "lower_bound_usd_per_hour": kept})


def _cost(point: ParetoPoint) -> float:
    """What is minimised: rent and moves."""
    return (point.usd_per_hour or 0.0) + point.switching_usd_per_hour


def _latency_settings(slo: Slo, over: Over, points: int) -> tuple[list[float], float]:
    """Targets evenly apart by ratio, the asked one among them, strictest first."""
    asked = slo.ttft_s if over == "ttft" else slo.tpot_s
    factors = np.geomspace(1 / SPAN, SPAN, max(points, 2))
    spread = {float(f"{asked * factor:.3g}") for factor in factors}
    return sorted(spread | {asked}), asked


def _quality_settings(problem: Problem, points: int, best: Solver) -> tuple[list[float], float]:
    """From the highest quality within reach down to what the cheapest plan has anyway."""
    if not any(c.stream == AUTO for c in problem.classes) or np.ptp(qualities(problem)) == 0:
        raise InputError(
            "quality: there is nothing to trade it for; it takes several models of different "
            "quality behind one workload"
        )
    asked = problem.limits.quality_mean.get(AUTO)
    served = without_unservable(with_quality(problem, AUTO, None))
    row = quality_rows(with_quality(served, AUTO, 1.0))[0]
    low = row_quality(served, best(served).shares, row)
    possible = np.where(np.isnan(served.load_s), -np.inf, qualities(served)).max(axis=1)
    rates = served.rates_rps * row.members
    high = float(rates[row.members] @ possible[row.members] / rates.sum())
    spread = {_floor4(q) for q in np.linspace(low, high, max(points, 2))}
    wanted = spread if asked is None else spread | {asked}
    return sorted(wanted, reverse=True), -1.0 if asked is None else asked


def _floor4(quality: float) -> float:
    """Rounded down, so that what was within reach stays so."""
    return float(np.floor(quality * 1e4 + 1e-9) / 1e4)
