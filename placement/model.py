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

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pulp

from placement.plan import AUTO
from placement.problem import Option, Problem, Stock

Kind = Literal["stock", "quality", "budget", "spot_share", "replicas"]
"""Limits that can be exceeded by an amount, at a price; see `Slack`."""

Objective = Literal["cost", "quality", "relaxation"]
Terms = list[tuple[pulp.LpVariable, float]]


@dataclass(frozen=True)
class Slack:
    """By how much a limit is exceeded; ``weight`` makes excesses of unlike limits comparable."""

    kind: Kind
    name: str
    asked: float
    sign: int
    weight: float
    excess: pulp.LpVariable

    @property
    def needed(self) -> float:
        """The limit that would do."""
        return self.asked + self.sign * float(self.excess.value() or 0.0)


@dataclass(frozen=True)
class Survival:
    """A row of `node_loss`: ``constant + per_replica . (n - lost) <= 0`` when a node of
    ``lost_option`` is lost; it holds for every fleet that survives that.
    """

    lost_option: int
    constant: float
    per_replica: tuple[float, ...]


@dataclass(frozen=True)
class Model:
    """The program and its variables; ``cells`` and ``shares`` go together.

    Rows are named: ``class_C``, ``load_R``, ``open_R``, ``quality_S``, ``floor_C``, ``stock_K``,
    ``nodes_K``, ``budget``, ``spot_share``, ``replicas_min_B``, ``replicas_max_B``, ``moves_R``.
    """

    lp: pulp.LpProblem
    replicas: list[pulp.LpVariable]
    cells: list[tuple[int, int]]
    shares: list[pulp.LpVariable]
    nodes: dict[int, Terms]
    slacks: list[Slack] = field(default_factory=list)

    def row(self, name: str, terms: Terms, sense: int, rhs: float) -> None:
        """Add ``terms (sense) rhs``; each variable at most once among the terms."""
        expression = pulp.LpAffineExpression(terms)
        self.lp.addConstraint(pulp.LpConstraint(expression, sense, name, rhs))


def build(
    problem: Problem,
    *,
    relax: bool = False,
    objective: Objective = "cost",
    quality_at_least: float | None = None,
    elastic: Collection[Kind] = (),
    survivals: Iterable[Survival] = (),
) -> Model:
    """The program; ``relax`` buys replicas in fractions.

    ``quality_at_least`` is the mean quality of ``auto`` beside the problem's own limits. Limits
    whose kind is ``elastic`` may be exceeded, which the objective ``relaxation`` minimises.
    """
    lp = pulp.LpProblem("placement", pulp.LpMinimize)
    category = pulp.LpContinuous if relax else pulp.LpInteger
    n = [lp.add_variable(f"n_{j}", 0, None, category) for j in range(len(problem.options))]
    rows, columns = np.nonzero(~np.isnan(problem.load_s))
    cells = list(zip(rows.tolist(), columns.tolist(), strict=True))
    x = [lp.add_variable(f"x_{c}_{r}", 0) for c, r in cells]
    model = Model(lp, n, cells, x, _node_counts(problem, lp, category))
    _serve(problem, model)
    if problem.quality is not None:
        _keep_quality(problem, model, quality_at_least, "quality" in elastic)
    _keep_stock(problem, model, "stock" in elastic)
    _keep_spot_share(problem, model, "spot_share" in elastic)
    _keep_replicas(problem, model, "replicas" in elastic)
    rent = _rent(problem, model)
    if problem.limits.budget_usd_per_hour is not None:
        budget = problem.limits.budget_usd_per_hour
        slack = _slack(model, "budget", "budget_usd_per_hour", budget, 1, "budget" in elastic)
        model.row("budget", [*rent, *slack], pulp.LpConstraintLE, budget)
    moves = _moves(problem, model)
    _survive(problem, model, list(survivals), category)
    terms = {
        "cost": [*rent, *moves],
        "quality": [(v, -q) for v, q in _mean_quality(problem, model, AUTO)],
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
        names = [f"nodes_{k}_{j}" for j, _ in _of(problem, stock)] if apart else [f"nodes_{k}"]
        counts[k] = [(lp.add_variable(name, 0, None, category), 1.0) for name in names]
    return counts


def _serve(problem: Problem, model: Model) -> None:
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
        counted = count_of[r]
        model.row(f"open_{r}", [*counted, (n, -float(len(counted)))], pulp.LpConstraintLE, 0.0)


def _mean_quality(problem: Problem, model: Model, stream: str) -> Terms:
    """Terms of the mean quality over the requests of a stream."""
    if problem.quality is None:
        return []
    weights = problem.rates_rps * np.array([c.stream == stream for c in problem.classes])
    weights = weights / (weights.sum() or 1.0)
    worth = (weights[:, None] * problem.quality).tolist()
    return [
        (var, worth[c][r])
        for (c, r), var in zip(model.cells, model.shares, strict=True)
        if weights[c]
    ]


def _keep_quality(problem: Problem, model: Model, at_least: float | None, elastic: bool) -> None:
    assert problem.quality is not None
    for s, (stream, target) in enumerate(problem.limits.quality_mean.items()):
        terms = _mean_quality(problem, model, stream)
        name = "quality.mean" + (f" of {stream}" if stream != AUTO else "")
        terms = [*terms, *_slack(model, "quality", name, target, -1, elastic)] if terms else []
        if terms:
            model.row(f"quality_{s}", terms, pulp.LpConstraintGE, target)
    if at_least is not None and (terms := _mean_quality(problem, model, AUTO)):
        model.row("quality_reached", terms, pulp.LpConstraintGE, at_least)
    floors = {c: k.quality_floor for c, k in enumerate(problem.classes) if k.quality_floor}
    by_class: dict[int, Terms] = {c: [] for c in floors}
    for (c, r), var in zip(model.cells, model.shares, strict=True):
        if c in floors:
            by_class[c].append((var, float(problem.quality[c, r])))
    for c, floor in floors.items():
        name = f"quality of {problem.classes[c]}"
        slack = _slack(model, "quality", name, floor, -1, elastic)
        model.row(f"floor_{c}", [*by_class[c], *slack], pulp.LpConstraintGE, floor)


def _keep_stock(problem: Problem, model: Model, elastic: bool) -> None:
    for k, stock in enumerate(problem.stocks):
        used: Terms = [(model.replicas[j], float(o.gpus)) for j, o in _of(problem, stock)]
        if k in model.nodes:
            _pack(problem, model, k)
            used = [(var, float(stock.node_gpus)) for var, _ in model.nodes[k]]
        if stock.available is not None and used:
            name, available = f"stock of {stock.pool}", float(stock.available)
            slack = _slack(model, "stock", name, available, 1, elastic)
            model.row(f"stock_{k}", [*used, *slack], pulp.LpConstraintLE, available)


def _pack(problem: Problem, model: Model, k: int) -> None:
    """Replicas fit into the nodes bought: all of the stock's together, or each group by itself."""
    stock = problem.stocks[k]
    held: Terms = [(model.replicas[j], float(o.slot_gpus)) for j, o in _of(problem, stock)]
    if problem.limits.node_loss_headroom is None:
        (nodes, _) = model.nodes[k][0]
        model.row(f"nodes_{k}", [*held, (nodes, -float(stock.node_gpus))], pulp.LpConstraintLE, 0.0)
        return
    options = _of(problem, stock)
    for (j, option), (n, _), (nodes, _) in zip(options, held, model.nodes[k], strict=True):
        size = -float(option.per_node)
        model.row(f"nodes_{k}_{j}", [(n, 1.0), (nodes, size)], pulp.LpConstraintLE, 0.0)


def _keep_spot_share(problem: Problem, model: Model, elastic: bool) -> None:
    cap = problem.limits.spot_share
    if cap is None:
        return
    terms: Terms = [
        (n, o.gpus * ((o.market == "spot") - cap))
        for n, o in zip(model.replicas, problem.options, strict=True)
    ]
    slack = _slack(model, "spot_share", "accelerators on spot beyond spot.share", 0.0, 1, elastic)
    model.row("spot_share", [*terms, *slack], pulp.LpConstraintLE, 0.0)


def _keep_replicas(problem: Problem, model: Model, elastic: bool) -> None:
    for b, bound in enumerate(problem.limits.replicas):
        terms: Terms = [
            (n, 1.0)
            for n, o in zip(model.replicas, problem.options, strict=True)
            if bound.covers(o)
        ]
        if bound.minimum:
            least = float(bound.minimum)
            name = f"replicas.min of {bound}"
            slack = _slack(model, "replicas", name, least, -1, elastic)
            model.row(f"replicas_min_{b}", [*terms, *slack], pulp.LpConstraintGE, least)
        if bound.maximum is not None and terms:
            most = float(bound.maximum)
            name = f"replicas.max of {bound}"
            slack = _slack(model, "replicas", name, most, 1, elastic)
            model.row(f"replicas_max_{b}", [*terms, *slack], pulp.LpConstraintLE, most)


def _rent(problem: Problem, model: Model) -> Terms:
    rent: Terms = [
        (n, o.usd_per_hour)
        for n, o in zip(model.replicas, problem.options, strict=True)
        if o.node_gpus == 1
    ]
    for k, nodes in model.nodes.items():
        rent += [(var, problem.stocks[k].usd_per_node_hour) for var, _ in nodes]
    return rent


def _moves(problem: Problem, model: Model) -> Terms:
    """Replicas started and stopped, with what each costs per hour of the horizon."""
    moving = problem.limits.switching
    if moving is None:
        return []
    cost: Terms = []
    for j, option in enumerate(problem.options):
        started = model.lp.add_variable(f"started_{j}", 0)
        stopped = model.lp.add_variable(f"stopped_{j}", 0)
        running = float(moving.running.get(option.name, 0))
        terms: Terms = [(model.replicas[j], 1.0), (started, -1.0), (stopped, 1.0)]
        model.row(f"moves_{j}", terms, pulp.LpConstraintEQ, running)
        cost.append((started, moving.start_usd / moving.horizon_h))
        cost.append((stopped, moving.stop_usd / moving.horizon_h))
    return cost


def _survive(problem: Problem, model: Model, survivals: Sequence[Survival], category: str) -> None:
    """Rows of fleets that survive a lost node, and how many replicas of an option it takes.

    ``lost`` is at least min(n, replicas per node): all of them, or a full node's.
    """
    lost: dict[int, pulp.LpVariable] = {}
    for i, cut in enumerate(survivals):
        j = cut.lost_option
        if j not in lost:
            lost[j] = _lost(problem, model, j, category)
        terms: Terms = list(zip(model.replicas, cut.per_replica, strict=True))
        terms.append((lost[j], -cut.per_replica[j]))
        model.row(f"survive_{i}", terms, pulp.LpConstraintLE, -cut.constant)


def _lost(problem: Problem, model: Model, j: int, category: str) -> pulp.LpVariable:
    n, most = model.replicas[j], float(problem.options[j].per_node)
    lost = model.lp.add_variable(f"lost_{j}", 0)
    full = model.lp.add_variable(f"full_{j}", 0, 1, category)
    model.row(
        f"lost_all_{j}",
        [(n, 1.0), (lost, -1.0), (full, -enough_replicas(problem, j))],
        pulp.LpConstraintLE,
        0.0,
    )
    model.row(f"lost_node_{j}", [(lost, 1.0), (full, -most)], pulp.LpConstraintGE, 0.0)
    return lost


def enough_replicas(problem: Problem, option: int) -> float:
    """More replicas of one option than any answer worth having holds: enough to carry all that it
    can serve by itself, with a node to spare, and no fewer than limits or a running fleet hold.
    """
    work = float(np.nansum(problem.rates_rps * problem.load_s[:, option]))
    limits = problem.limits
    headroom = min(float(problem.usable[option]), limits.node_loss_headroom or 1.0)
    running = limits.switching.running if limits.switching else {}
    asked = sum(b.minimum for b in limits.replicas)
    most = np.ceil(work / headroom) + 1 + problem.options[option].per_node
    return float(max(most, asked, running.get(problem.options[option].name, 0)))


def _slack(model: Model, kind: Kind, name: str, asked: float, sign: int, elastic: bool) -> Terms:
    """The term that lets a limit be exceeded, if it may; ``sign`` is +1 for upper limits."""
    if not elastic:
        return []
    excess = model.lp.add_variable(f"excess_{len(model.slacks)}", 0)
    model.slacks.append(Slack(kind, name, asked, sign, 1.0 / max(abs(asked), 1.0), excess))
    return [(excess, -float(sign))]


def _of(problem: Problem, stock: Stock) -> list[tuple[int, Option]]:
    return [(j, o) for j, o in enumerate(problem.options) if o.pool == stock.pool]
