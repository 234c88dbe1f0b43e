"""Every answer is checked against the problem itself, without the program or the solver."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from placement.node_loss import broken_survivals
from placement.problem import Problem
from placement.solution import (
    Solution,
    mean_quality,
    nodes_needed,
    rent_usd_per_hour,
    switching_usd_per_hour,
)
from profiler.errors import OrchestratorError

TOLERANCE = 1e-6


def check(problem: Problem, solution: Solution) -> None:
    """Verify an answer.

    Raises:
        OrchestratorError: a limit is violated; a bug in the solver or in the model.
    """
    if broken := violations(problem, solution):
        raise OrchestratorError(f"the solver's answer breaks its own limits: {'; '.join(broken)}")


def violations(problem: Problem, solution: Solution) -> list[str]:
    """Each limit that an answer breaks, and each figure of it that is wrong, in words."""
    found = [*_shares(problem, solution)]
    if not found:  # what follows is of no meaning for shares that are none
        found += _load(problem, solution)
        found += _quality(problem, solution)
    found += _purchase(problem, solution)
    found += _cost(problem, solution)
    if not found and broken_survivals(problem, solution.replicas):
        found.append("the loss of one node leaves too little")
    return found


def _shares(problem: Problem, solution: Solution) -> Iterator[str]:
    x = solution.shares
    if not np.allclose(x.sum(axis=1), 1, atol=TOLERANCE) or (x < -TOLERANCE).any():
        yield "shares do not sum to one"
    if (np.isnan(problem.load_s) & (x > TOLERANCE)).any():
        yield "a class is sent where it cannot be served"
    if (solution.replicas < 0).any():
        yield "fewer than no replicas"


def _load(problem: Problem, solution: Solution) -> Iterator[str]:
    n, x = solution.replicas, solution.shares
    load = np.nansum(problem.rates_rps[:, None] * problem.load_s * x, axis=0)
    if (load > problem.usable * n * (1 + TOLERANCE) + TOLERANCE).any():
        yield "a group is above its headroom"
    if ((x > TOLERANCE) & (n == 0)).any():
        yield "a class is sent to a group of no replicas"


def _quality(problem: Problem, solution: Solution) -> Iterator[str]:
    for stream, target in problem.limits.quality_mean.items():
        reached = mean_quality(problem, solution.shares, stream)
        if reached is not None and reached < target - TOLERANCE:
            yield f"mean quality of {stream} short by {target - reached:.4f}"
    if problem.quality is None:
        return
    of_class = (problem.quality * solution.shares).sum(axis=1)
    for c, reached in zip(problem.classes, of_class.tolist(), strict=True):
        if c.quality_floor is not None and reached < c.quality_floor - TOLERANCE:
            yield f"quality of {c} short by {c.quality_floor - reached:.4f}"


def _purchase(problem: Problem, solution: Solution) -> Iterator[str]:
    n, options = solution.replicas, problem.options
    nodes = nodes_needed(problem, n)
    if len(solution.nodes) == len(nodes) and (solution.nodes < nodes).any():
        yield "replicas do not fit into the nodes bought"
    bought = np.maximum(nodes, solution.nodes) if len(solution.nodes) == len(nodes) else nodes
    for stock, count in zip(problem.stocks, bought.tolist(), strict=True):
        gpus = sum(int(k) * o.gpus for k, o in zip(n, options, strict=True) if o.pool == stock.pool)
        used = count * stock.node_gpus if stock.node_gpus > 1 else gpus
        if stock.available is not None and used > stock.available:
            yield f"more {stock.pool} than offered"
    spot = sum(int(k) * o.gpus for k, o in zip(n, options, strict=True) if o.market == "spot")
    total = sum(int(k) * o.gpus for k, o in zip(n, options, strict=True))
    share = problem.limits.spot_share
    if share is not None and spot > share * total + TOLERANCE * (1 + total):
        yield f"{spot} of {total} accelerators on spot"
    for bound in problem.limits.replicas:
        held = sum(int(k) for k, o in zip(n, options, strict=True) if bound.covers(o))
        if held < bound.minimum or (bound.maximum is not None and held > bound.maximum):
            yield f"{held} replicas of {bound}"


def _cost(problem: Problem, solution: Solution) -> Iterator[str]:
    rent = rent_usd_per_hour(problem, solution.replicas)
    moves = switching_usd_per_hour(problem, solution.replicas)
    if not np.isclose(rent, solution.usd_per_hour, rtol=TOLERANCE, atol=TOLERANCE):
        yield f"it costs ${rent:.6f}/h, not ${solution.usd_per_hour:.6f}/h"
    if not np.isclose(moves, solution.switching_usd_per_hour, rtol=TOLERANCE, atol=TOLERANCE):
        yield f"moving costs ${moves:.6f}/h, not ${solution.switching_usd_per_hour:.6f}/h"
    budget = problem.limits.budget_usd_per_hour
    if budget is not None and rent > budget * (1 + TOLERANCE):
        yield f"it costs ${rent:.2f}/h of a budget of ${budget:.2f}/h"
    top = solution.objective_usd_per_hour * (1 + TOLERANCE) + TOLERANCE
    if solution.lower_bound_usd_per_hour > top or solution.lp_bound_usd_per_hour > top:
        yield "it costs less than its own lower bound"
