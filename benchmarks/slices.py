"""The slice formulation of Melange (Griggs et al., 2024, arXiv 2404.14527), to compare.

Each bucket's rate is cut into slices, and each slice goes whole to one GPU type:

    min  sum_j c_j B_j
    s.t. sum_j A_ij = 1,   sum_i A_ij load_ij <= B_j,   A_ij binary,  B_j integer

A pair (i, j) that cannot be served has no variable; the published code gives it a fantastic cost.
Loads are those of the planner, over its headroom, so that both are asked the same.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import pulp

from placement.problem import Problem


@dataclass(frozen=True)
class SliceRun:
    """Cost found (None without an answer), seconds, and whether CBC proved it the best."""

    usd_per_hour: float | None
    wall_s: float
    proven: bool


def solve_slices(problem: Problem, slice_factor: int, time_limit_s: float) -> SliceRun:
    """Melange's ILP of a problem without limits, in PuLP, solved by CBC to its default gap.

    ``wall_s`` counts modelling and solving, as for the planner.
    """
    started_s = time.perf_counter()
    lp = pulp.LpProblem("slices", pulp.LpMinimize)
    count = [lp.add_variable(f"B_{j}", 0, None, "Integer") for j in range(len(problem.options))]
    load = problem.rates_rps[:, None] * problem.load_s / problem.headroom / slice_factor
    used: list[list[tuple[pulp.LpVariable, float]]] = [[] for _ in problem.options]
    for i, row in enumerate(load):
        for k in range(slice_factor):
            served = [
                (j, lp.add_variable(f"A_{i}_{k}_{j}", 0, 1, "Integer"))
                for j in np.flatnonzero(~np.isnan(row)).tolist()
            ]
            lp += pulp.LpAffineExpression([(var, 1.0) for _, var in served]) == 1
            for j, var in served:
                used[j].append((var, float(row[j])))
    for j, terms in enumerate(used):
        lp += pulp.LpAffineExpression([*terms, (count[j], -1.0)]) <= 0
    prices = [o.usd_per_hour for o in problem.options]
    lp.setObjective(pulp.LpAffineExpression(list(zip(count, prices, strict=True))))
    lp.solve(pulp.PULP_CBC_CMD(msg=False, threads=1, timeLimit=time_limit_s))
    wall_s = time.perf_counter() - started_s
    if lp.sol_status not in (pulp.LpSolutionOptimal, pulp.LpSolutionIntegerFeasible):
        return SliceRun(None, wall_s, proven=False)
    cost = sum(price * round(b.value()) for price, b in zip(prices, count, strict=True))
    return SliceRun(cost, wall_s, lp.sol_status == pulp.LpSolutionOptimal)
