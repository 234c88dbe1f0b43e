"""The placement problem as a mixed-integer linear program, in PuLP.

    min   sum_r p_r n_r + sum_k p_k N_k + (start sum_r s_r + stop sum_r t_r) / horizon
    s.t.  sum_r x_cr                   = 1                    every class is served
          sum_c rate_c load_cr x_cr   <= usable_r n_r         no group above its headroom
          sum_c x_cr                  <= |C_r| n_r            no share without a replica
          sum_c rate_c q_cr x_cr      >= Q_s sum_c rate_c     mean quality, c in stream s
          sum_r q_cr x_cr             >= floor_c              quality of one class
          sum_{r in k} gpus_r n_r     <= stock_k              bought by the accelerator
          sum_{r in k} slot_r n_r     <= node_k N_k           bought by the node
          node_k N_k                  <= stock_k
          sum_r p_r n_r + sum_k p_k N_k <= budget
          sum_{r spot} gpus_r n_r     <= S sum_r gpus_r n_r   spot share
          min_b <= sum_{r in b} n_r   <= max_b                replicas
          n_r - running_r              = s_r - t_r            moves
          x_cr, s_r, t_r >= 0,  n_r, N_k integer

usable_r is the headroom, and for spot the headroom times (1 - spot reserve). The shares x are
continuous: a class may be split between groups at will, which is what a router does, and it keeps
the integers down to one per option and one per kind of node. A cell (c, r) whose load is NaN has
no variable. Surviving the loss of a node adds the rows of `node_loss`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import pulp

from placement.limit_rows import (
    count_moves,
    keep_quality,
    keep_replicas,
    keep_spot_share,
    keep_stock,
    mean_quality_terms,
    options_of,
    slack_terms,
    survive_node_loss,
)
from placement.plan import AUTO
from placement.problem import Problem
from placement.program import Kind, Model, Objective, Slack, Survival, Terms

__all__ = ["Kind", "Model", "Objective", "Slack", "Survival", "build"]


def build(
    problem: Problem,
    *,
    relax: bool = False,
    objective: Objective = "cost",
    quality_at_least: float | None = None,
    elastic: Collection[Kind] = (),
    survivals: Iterable[Survival] = (),
    opening: bool = True,
    shares: bool = True,
) -> Model:
    """The program; ``relax`` buys replicas in fractions, and without ``opening`` the rows that ask
    for a replica wherever a share goes, which are about whole ones, are left out. Without
    ``shares`` only what is asked of replicas is left: no class is served, no quality reached.

    ``quality_at_least`` is the mean quality of ``auto`` beside the problem's own limits. Limits
    whose kind is ``elastic`` may be exceeded, which the objective ``relaxation`` minimises.
    """
    lp = pulp.LpProblem("placement", pulp.LpMinimize)
    category = pulp.LpContinuous if relax else pulp.LpInteger
    n = [lp.add_variable(f"n_{j}", 0, None, category) for j in range(len(problem.options))]
    rows, columns = np.nonzero(~np.isnan(problem.load_s) & shares)
    cells = list(zip(rows.tolist(), columns.tolist(), strict=True))
    x = [lp.add_variable(f"x_{c}_{r}", 0) for c, r in cells]
    model = Model(lp, n, cells, x, _node_counts(problem, lp, category))
    _serve(problem, model, opening=opening)
    if problem.quality is not None and shares:
        keep_quality(problem, model, quality_at_least, "quality" in elastic)
    keep_stock(problem, model, "stock" in elastic)
    keep_spot_share(problem, model, "spot_share" in elastic)
    keep_replicas(problem, model, "replicas" in elastic)
    rent = _rent(problem, model)
    if problem.limits.budget_usd_per_hour is not None:
        budget = problem.limits.budget_usd_per_hour
        slack = slack_terms(model, "budget", "budget_usd_per_hour", budget, 1, "budget" in elastic)
        model.row("budget", [*rent, *slack], pulp.LpConstraintLE, budget)
    moves = count_moves(problem, model)
    survive_node_loss(problem, model, list(survivals), category)
    terms = {
        "cost": [*rent, *moves],
        "quality": [(v, -q) for v, q in mean_quality_terms(problem, model, AUTO)],
        "relaxation": [(s.excess, s.weight) for s in model.slacks],
    }
    lp.setObjective(pulp.LpAffineExpression(terms[objective]))
    return model


def _node_counts(problem: Problem, lp: pulp.LpProblem, category: str) -> dict[int, Terms]:
    """Node variables per stock sold by the node; one per option where groups share no node."""
    counts: dict[int, Terms] = {}
    for k, stock in enumerate(problem.stocks):
        if stock.node_gpus == 1:
            continue
        apart = problem.limits.node_loss_headroom is not None
        names = (
            [f"nodes_{k}_{j}" for j, _ in options_of(problem, stock)] if apart else [f"nodes_{k}"]
        )
        counts[k] = [(lp.add_variable(name, 0, None, category), 1.0) for name in names]
    return counts


def _serve(problem: Problem, model: Model, *, opening: bool) -> None:
    by_class: dict[int, Terms] = {}
    work_of: dict[int, Terms] = {}
    count_of: dict[int, Terms] = {}
    work = (problem.rates_rps[:, None] * problem.load_s).tolist()
    for (c, r), var in zip(model.cells, model.shares, strict=True):
        by_class.setdefault(c, []).append((var, 1.0))
        work_of.setdefault(r, []).append((var, work[c][r]))
        count_of.setdefault(r, []).append((var, 1.0))
    for c, terms in by_class.items():
        model.row(f"class_{c}", terms, pulp.LpConstraintEQ, 1.0)
    usable = problem.usable.tolist()
    for r, terms in work_of.items():
        n = model.replicas[r]
        model.row(f"load_{r}", [*terms, (n, -usable[r])], pulp.LpConstraintLE, 0.0)
        if opening:
            counted = count_of[r]
            model.row(f"open_{r}", [*counted, (n, -float(len(counted)))], pulp.LpConstraintLE, 0.0)


def _rent(problem: Problem, model: Model) -> Terms:
    rent: Terms = [
        (n, o.usd_per_hour)
        for n, o in zip(model.replicas, problem.options, strict=True)
        if o.node_gpus == 1
    ]
    for k, nodes in model.nodes.items():
        rent += [(var, problem.stocks[k].usd_per_node_hour) for var, _ in nodes]
    return rent
