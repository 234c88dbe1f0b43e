"""The placement ILP, in PuLP, solved by HiGHS.

    min   sum_r p_r n_r
    s.t.  sum_r x_cr                 = 1               every class is served
          sum_c rate_c load_cr x_cr <= headroom n_r    no group above its headroom
          sum_c x_cr                <= |C| n_r         no share without a replica, however rare
          sum_c rate_c x_cr q_r     >= Q sum_c rate_c  mean quality of the auto stream
          sum_{r on g} gpus_r n_r   <= stock_g         per GPU type and market
          x_cr >= 0,  n_r integer

The shares x are continuous: a class may be split between groups at will, which is what a router
does, and it keeps the integers down to one per replica option. A cell (c, r) whose load is NaN
has no variable. Every answer is checked against the constraints before it is returned.
"""

from __future__ import annotations

from dataclasses import dataclass

import highspy
import numpy as np
import pulp
from numpy.typing import NDArray

from placement.plan import AUTO
from placement.problem import Option, Problem, Stock
from profiler.errors import InfeasibleError, InputError, OrchestratorError

Floats = NDArray[np.float64]
TOLERANCE = 1e-6
INTEGER_TOLERANCE = 1e-9  # how far from a whole number a replica count may be while solving


class TimeLimitError(InputError):
    """The solver found no answer in the time it was given; there may well be one."""


@dataclass(frozen=True)
class Solution:
    """Replicas and shares, and how near they are proven to be to the best.

    ``replicas`` is ``[options]``, ``shares`` is ``[classes, options]`` with rows that sum to one.
    """

    replicas: NDArray[np.int64]
    shares: Floats
    usd_per_hour: float
    lower_bound_usd_per_hour: float
    lp_bound_usd_per_hour: float


@dataclass(frozen=True)
class _Model:
    lp: pulp.LpProblem
    replicas: list[pulp.LpVariable]
    shares: dict[tuple[int, int], pulp.LpVariable]
    stock_slack: dict[Stock, pulp.LpVariable]


def solve(
    problem: Problem,
    *,
    time_limit_s: float = 30.0,
    gap: float = 1e-4,
    lp_bound: bool = True,
) -> Solution:
    """The cheapest fleet; without ``lp_bound`` the MIP's own bound stands in for the LP's.

    Raises:
        InfeasibleError: no fleet keeps every limit; names those that bind and by how much.
        TimeLimitError: no answer was found in time.
    """
    model = _build(problem)
    status = _run(model.lp, time_limit_s=time_limit_s, mip_rel_gap=gap)
    if status == "infeasible":
        raise InfeasibleError(_relaxation(problem, time_limit_s))
    if status == "no answer":
        raise TimeLimitError(f"no plan found in {time_limit_s:g} s; raise --time-limit")
    replicas, shares = _values(problem, model)
    cost = _cost(problem, replicas)
    bound = min(max(0.0, float(model.lp.solverModel.getInfo().mip_dual_bound)), cost)
    solution = Solution(
        replicas=replicas,
        shares=shares,
        usd_per_hour=cost,
        lower_bound_usd_per_hour=bound,
        lp_bound_usd_per_hour=lp_bound_usd_per_hour(problem) if lp_bound else bound,
    )
    check(problem, solution)
    return solution


def check(problem: Problem, solution: Solution) -> None:
    """Verify an answer against the problem, independently of the solver.

    Raises:
        OrchestratorError: a constraint is violated; a bug in the solver or in the model.
    """
    n, x = solution.replicas, solution.shares
    load = np.nansum(problem.rates_rps[:, None] * problem.load_s * x, axis=0)
    broken = []
    if not np.allclose(x.sum(axis=1), 1, atol=TOLERANCE) or (x < -TOLERANCE).any():
        broken.append("shares do not sum to one")
    if (np.isnan(problem.load_s) & (x > TOLERANCE)).any():
        broken.append("a class is sent where it cannot be served")
    if (load > problem.headroom * n * (1 + TOLERANCE) + TOLERANCE).any():
        broken.append("a group is above its headroom")
    broken += [
        f"more {s.gpu} than offered"
        for s in problem.stocks
        if s.available is not None
        and sum(int(n[j]) * o.gpus for j, o in _bought_from(problem, s)) > s.available
    ]
    if (missing := _quality_shortfall(problem, x)) > TOLERANCE:
        broken.append(f"mean quality short by {missing:.4f}")
    if broken:
        raise OrchestratorError(f"the solver's answer breaks its own limits: {'; '.join(broken)}")


def _build(problem: Problem, *, relax: bool = False, elastic: bool = False) -> _Model:
    """The model; with ``elastic``, stock may be exceeded and the excess is what is minimised."""
    lp = pulp.LpProblem("placement", pulp.LpMinimize)
    kind = pulp.LpContinuous if relax else pulp.LpInteger
    n = [lp.add_variable(f"n_{j}", 0, None, kind) for j in range(len(problem.options))]
    cells = [(int(c), int(r)) for c, r in zip(*np.nonzero(~np.isnan(problem.load_s)), strict=True)]
    x = {cell: lp.add_variable(f"x_{cell[0]}_{cell[1]}", 0) for cell in cells}
    stock_slack = {
        s: lp.add_variable(f"short_{i}", 0) for i, s in enumerate(problem.stocks) if elastic
    }
    cost = [(n[j], o.usd_per_hour) for j, o in enumerate(problem.options)]
    excess = [(slack, 1.0) for slack in stock_slack.values()]
    lp += pulp.LpAffineExpression(excess if elastic else cost)

    by_class: dict[int, list[pulp.LpVariable]] = {}
    by_option: dict[int, list[tuple[pulp.LpVariable, float]]] = {}
    for (c, r), var in x.items():
        by_class.setdefault(c, []).append(var)
        work = float(problem.classes[c].rate_rps * problem.load_s[c, r])
        by_option.setdefault(r, []).append((var, work))
    for terms in by_class.values():
        lp += pulp.lpSum(terms) == 1
    for r, work_terms in by_option.items():
        lp += pulp.LpAffineExpression([*work_terms, (n[r], -problem.headroom)]) <= 0
        lp += pulp.lpSum(var for var, _ in work_terms) <= len(work_terms) * n[r]
    for s in problem.stocks:
        if s.available is None:
            continue
        used = pulp.lpSum(o.gpus * n[j] for j, o in _bought_from(problem, s))
        lp += used <= s.available + stock_slack.get(s, 0)
    if _target(problem) is not None:
        lp += _quality_row(problem, x) >= 0
    return _Model(lp, n, x, stock_slack)


def _quality_row(
    problem: Problem, x: dict[tuple[int, int], pulp.LpVariable]
) -> pulp.LpAffineExpression:
    """Mean of (quality - target) over the requests of the auto stream."""
    total = sum(c.rate_rps for c in problem.classes if c.stream == AUTO) or 1.0
    return pulp.LpAffineExpression(
        [
            (var, problem.classes[c].rate_rps / total * _surplus(problem)[c, r])
            for (c, r), var in x.items()
            if problem.classes[c].stream == AUTO
        ]
    )


def _target(problem: Problem) -> float | None:
    return problem.limits.quality_mean.get(AUTO)


def _surplus(problem: Problem) -> Floats:
    assert problem.quality is not None
    return problem.quality - (_target(problem) or 0.0)


def _quality_shortfall(problem: Problem, x: Floats) -> float:
    if _target(problem) is None:
        return 0.0
    auto = np.array([c.stream == AUTO for c in problem.classes])
    rates = problem.rates_rps * auto
    return float(-(rates @ (x * _surplus(problem)).sum(axis=1)) / max(rates.sum(), TOLERANCE))


def _run(lp: pulp.LpProblem, *, time_limit_s: float, mip_rel_gap: float = 0.0) -> str:
    """Solve; returns 'solved', 'infeasible' or 'no answer' from HiGHS's own status.

    PuLP reports a time-out with or without an answer as optimal, so its status is not used.
    """
    solver = pulp.HiGHS(
        msg=False,
        timeLimit=time_limit_s,
        gapRel=mip_rel_gap,
        threads=1,
        mip_feasibility_tolerance=INTEGER_TOLERANCE,
    )
    lp.solve(solver)
    status = lp.solverModel.getModelStatus()
    states = highspy.HighsModelStatus
    if status in (states.kInfeasible, states.kUnboundedOrInfeasible):
        return "infeasible"
    found = lp.solverModel.getInfo().primal_solution_status == highspy.kSolutionStatusFeasible
    return "solved" if found else "no answer"


def _values(problem: Problem, model: _Model) -> tuple[NDArray[np.int64], Floats]:
    """Integers rounded, shares cleaned of numerical dust and made to sum to one."""
    replicas = np.array([round(v.value() or 0) for v in model.replicas], dtype=np.int64)
    shares = np.zeros(problem.load_s.shape)
    for (c, r), var in model.shares.items():
        value = var.value() or 0.0
        shares[c, r] = value if value > TOLERANCE and replicas[r] else 0.0
    return replicas, shares / shares.sum(axis=1, keepdims=True)


def _cost(problem: Problem, replicas: NDArray[np.int64]) -> float:
    return float(sum(o.usd_per_hour * n for o, n in zip(problem.options, replicas, strict=True)))


def lp_bound_usd_per_hour(problem: Problem) -> float:
    """What the fleet would cost if replicas could be bought in fractions."""
    lp = _build(problem, relax=True).lp
    _run(lp, time_limit_s=30.0)
    return float(lp.solverModel.getInfo().objective_function_value)


def _bought_from(problem: Problem, stock: Stock) -> list[tuple[int, Option]]:
    return [(j, o) for j, o in enumerate(problem.options) if o.pool == stock.pool]


def _relaxation(problem: Problem, time_limit_s: float) -> str:
    """The least change of the limits that would make the problem feasible, in words.

    Quality first, which no stock can mend; then the fewest accelerators beyond the stock.
    """
    target = _target(problem)
    if target is not None and (reach := _reachable_quality(problem)) < target - TOLERANCE:
        return f"quality.mean: {target} asked, at most {reach:.4f} reachable"
    model = _build(problem, elastic=True)
    if _run(model.lp, time_limit_s=time_limit_s, mip_rel_gap=1e-3) != "solved":
        return "the limits cannot be kept together; which of them bind was not found in time"
    needs = [
        f"stock of {s.gpu} ({s.market.replace('_', '-')}): {s.available} offered, "
        f"{s.available + round(v.value())} needed"
        for s, v in model.stock_slack.items()
        if (v.value() or 0) > TOLERANCE
    ]
    return f"the limits that bind: {'; '.join(needs)}"


def _reachable_quality(problem: Problem) -> float:
    """Mean quality of the auto stream when each class goes to the best model that can serve it."""
    assert problem.quality is not None
    best = [
        (c.rate_rps, float(problem.quality[i][ok].max()))
        for i, (c, ok) in enumerate(zip(problem.classes, ~np.isnan(problem.load_s), strict=True))
        if c.stream == AUTO
    ]
    total = sum(rate for rate, _ in best)
    return sum(rate * quality for rate, quality in best) / total if total else 1.0
