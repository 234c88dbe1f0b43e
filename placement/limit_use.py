"""Each limit of a problem: how much of it a plan uses, and whether it binds.

A limit binds where it is used up, or where easing it would lower the fractional optimum.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from placement.explanation import LimitUse
from placement.fractional import NEGLIGIBLE, Fractional
from placement.plan import AUTO
from placement.prices import qualities, quality_rows, row_quality
from placement.problem import Option, Problem, Stock
from placement.solution import Solution

FULL = 0.995
"""Part of the headroom from which a group is called full."""

SIDES = {"min": "least", "max": "most"}


def limit_uses(problem: Problem, solution: Solution, fractional: Fractional) -> Iterator[LimitUse]:
    """Every limit that the plan touches or might, and whether it binds."""
    yield from _headrooms(problem, solution)
    yield from _stocks(problem, solution, fractional)
    yield from _qualities(problem, solution, fractional)
    yield from _others(problem, solution, fractional)


def _headrooms(problem: Problem, solution: Solution) -> Iterator[LimitUse]:
    used = np.nansum(problem.rates_rps[:, None] * problem.load_s * solution.shares, axis=0)
    for option, n, work, usable in zip(
        problem.options, solution.replicas, used, problem.usable, strict=True
    ):
        if n:
            load = float(work / n)
            full = load >= usable * FULL
            yield LimitUse(
                limit=f"headroom of {option.name}",
                used=round(load, 6),
                allowed=float(usable),
                binds=full,
                words=f"{option.name} is planned at {load:.0%} of saturation, {usable:.0%} allowed",
            )


def _stocks(problem: Problem, solution: Solution, fractional: Fractional) -> Iterator[LimitUse]:
    for k, stock in enumerate(problem.stocks):
        options = [(j, o) for j, o in enumerate(problem.options) if o.pool == stock.pool]
        if stock.available is None or not options:
            continue
        used = _used(k, stock, options, solution)
        price = fractional.duals.get(f"stock_{k}", 0.0)
        left = stock.available - used
        least = stock.node_gpus if stock.node_gpus > 1 else min(o.gpus for _, o in options)
        binds = price > NEGLIGIBLE or (used > 0 and left < least)
        yield LimitUse(
            limit=f"stock of {stock.pool}",
            used=used,
            allowed=stock.available,
            binds=binds,
            words=f"{used} of {stock.available} {stock.pool} in use",
        )


def _used(k: int, stock: Stock, options: list[tuple[int, Option]], solution: Solution) -> int:
    """Accelerators taken from stock ``k``: of whole nodes, all of those bought."""
    if stock.node_gpus > 1:
        return int(solution.nodes[k]) * stock.node_gpus
    return sum(o.gpus * int(solution.replicas[j]) for j, o in options)


def _qualities(problem: Problem, solution: Solution, fractional: Fractional) -> Iterator[LimitUse]:
    streams = list(problem.limits.quality_mean)
    for row in quality_rows(problem):
        reached = row_quality(problem, solution.shares, row)
        of = "" if row.name == AUTO else f" of {row.name}"
        name = (
            f"floor_{int(np.argmax(row.members))}"
            if row.is_floor
            else (f"quality_{streams.index(row.name)}")
        )
        price = fractional.duals.get(name, 0.0)
        yield LimitUse(
            limit=f"{'quality floor' if row.is_floor else 'mean quality'}{of}",
            used=round(reached, 6),
            allowed=row.target,
            binds=price > NEGLIGIBLE,
            words=f"quality{of} is {reached:.3f}, at least {row.target:.3f} asked",
        )


def _others(problem: Problem, solution: Solution, fractional: Fractional) -> Iterator[LimitUse]:
    """The spot share and the bounds on replicas."""
    held = solution.replicas
    cap = problem.limits.spot_share
    if cap is not None:
        gpus = np.array([o.gpus for o in problem.options]) * held
        spot = np.array([o.market == "spot" for o in problem.options])
        share = share_of(float(gpus[spot].sum()), float(gpus.sum()))
        yield LimitUse(
            limit="spot share",
            used=share,
            allowed=cap,
            binds=fractional.duals.get("spot_share", 0.0) > NEGLIGIBLE,
            words=f"{share:.0%} of accelerators on spot, {cap:.0%} allowed",
        )
    for b, bound in enumerate(problem.limits.replicas):
        count = sum(int(n) for n, o in zip(held, problem.options, strict=True) if bound.covers(o))
        for side, value in (("min", bound.minimum), ("max", bound.maximum)):
            if (not value and side == "min") or value is None:
                continue
            dual = fractional.duals.get(f"replicas_{side}_{b}", 0.0)
            yield LimitUse(
                limit=f"replicas.{side} of {bound}",
                used=count,
                allowed=value,
                binds=dual > NEGLIGIBLE,
                words=f"{count} replicas of {bound}, at {SIDES[side]} {value}",
            )


def budget_use(problem: Problem, solution: Solution) -> Iterator[LimitUse]:
    """The budget, where there is one; it binds while dearer fleets could be better."""
    budget = problem.limits.budget_usd_per_hour
    if budget is None:
        return
    best = qualities(problem)[~np.isnan(problem.load_s)].max(initial=0.0)
    binds = solution.quality is not None and solution.quality < best - NEGLIGIBLE
    yield LimitUse(
        limit="budget",
        used=round(solution.usd_per_hour, 6),
        allowed=budget,
        binds=binds,
        words=f"${solution.usd_per_hour:,.2f}/h of a budget of ${budget:,.2f}/h",
    )


def share_of(part: float, whole: float) -> float:
    """A part of a whole, in [0, 1]; 0 of nothing."""
    return round(min(max(float(part) / float(whole), 0.0), 1.0), 6) if whole else 0.0
