"""The rows of each limit: quality, stock and nodes, spot, replicas, moves, the loss of a node."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pulp

from placement.plan import AUTO
from placement.problem import Option, Problem, Stock
from placement.program import Kind, Model, Slack, Survival, Terms


def mean_quality_terms(problem: Problem, model: Model, stream: str) -> Terms:
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


def keep_quality(problem: Problem, model: Model, at_least: float | None, elastic: bool) -> None:
    assert problem.quality is not None
    for s, (stream, target) in enumerate(problem.limits.quality_mean.items()):
        terms = mean_quality_terms(problem, model, stream)
        name = "quality.mean" + (f" of {stream}" if stream != AUTO else "")
        terms = [*terms, *slack_terms(model, "quality", name, target, -1, elastic)] if terms else []
        if terms:
            model.row(f"quality_{s}", terms, pulp.LpConstraintGE, target)
    if at_least is not None and (terms := mean_quality_terms(problem, model, AUTO)):
        model.row("quality_reached", terms, pulp.LpConstraintGE, at_least)
    floors = {c: k.quality_floor for c, k in enumerate(problem.classes) if k.quality_floor}
    by_class: dict[int, Terms] = {c: [] for c in floors}
    for (c, r), var in zip(model.cells, model.shares, strict=True):
        if c in floors:
            by_class[c].append((var, float(problem.quality[c, r])))
    for c, floor in floors.items():
        name = f"quality of {problem.classes[c]}"
        slack = slack_terms(model, "quality", name, floor, -1, elastic)
        model.row(f"floor_{c}", [*by_class[c], *slack], pulp.LpConstraintGE, floor)


def keep_stock(problem: Problem, model: Model, elastic: bool) -> None:
    for k, stock in enumerate(problem.stocks):
        used: Terms = [(model.replicas[j], float(o.gpus)) for j, o in options_of(problem, stock)]
        if k in model.nodes:
            _pack(problem, model, k)
            used = [(var, float(stock.node_gpus)) for var, _ in model.nodes[k]]
        if stock.available is not None and used:
            name, available = f"stock of {stock.pool}", float(stock.available)
            slack = slack_terms(model, "stock", name, available, 1, elastic)
            model.row(f"stock_{k}", [*used, *slack], pulp.LpConstraintLE, available)


def _pack(problem: Problem, model: Model, k: int) -> None:
    """Replicas fit into the nodes bought: all of the stock's together, or each group by itself."""
    stock = problem.stocks[k]
    held: Terms = [(model.replicas[j], float(o.slot_gpus)) for j, o in options_of(problem, stock)]
    if problem.limits.node_loss_headroom is None:
        (nodes, _) = model.nodes[k][0]
        model.row(f"nodes_{k}", [*held, (nodes, -float(stock.node_gpus))], pulp.LpConstraintLE, 0.0)
        return
    options = options_of(problem, stock)
    for (j, option), (n, _), (nodes, _) in zip(options, held, model.nodes[k], strict=True):
        size = -float(option.per_node)
        model.row(f"nodes_{k}_{j}", [(n, 1.0), (nodes, size)], pulp.LpConstraintLE, 0.0)


def keep_spot_share(problem: Problem, model: Model, elastic: bool) -> None:
    cap = problem.limits.spot_share
    if cap is None:
        return
    terms: Terms = [
        (n, o.gpus * ((o.market == "spot") - cap))
        for n, o in zip(model.replicas, problem.options, strict=True)
    ]
    slack = slack_terms(
        model, "spot_share", "accelerators on spot beyond spot.share", 0.0, 1, elastic
    )
    model.row("spot_share", [*terms, *slack], pulp.LpConstraintLE, 0.0)


def keep_replicas(problem: Problem, model: Model, elastic: bool) -> None:
    for b, bound in enumerate(problem.limits.replicas):
        terms: Terms = [
            (n, 1.0)
            for n, o in zip(model.replicas, problem.options, strict=True)
            if bound.covers(o)
        ]
        if bound.minimum:
            least = float(bound.minimum)
            name = f"replicas.min of {bound}"
            slack = slack_terms(model, "replicas", name, least, -1, elastic)
            model.row(f"replicas_min_{b}", [*terms, *slack], pulp.LpConstraintGE, least)
        if bound.maximum is not None and terms:
            most = float(bound.maximum)
            name = f"replicas.max of {bound}"
            slack = slack_terms(model, "replicas", name, most, 1, elastic)
            model.row(f"replicas_max_{b}", [*terms, *slack], pulp.LpConstraintLE, most)


def count_moves(problem: Problem, model: Model) -> Terms:
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


def survive_node_loss(
    problem: Problem, model: Model, survivals: Sequence[Survival], category: str
) -> None:
    """Rows of fleets that survive a lost node, and how many replicas of an option it takes.

    ``lost`` is at least min(n, replicas per node): all of them, or a full node's. Of what is left
    no more than `enough_replicas` are counted, which is exact however many there are.
    """
    lost: dict[int, pulp.LpVariable] = {}
    for i, cut in enumerate(survivals):
        terms: Terms = [(n, w) for n, w in zip(model.replicas, cut.per_replica, strict=True) if w]
        if not cut.loses_node:
            model.row(f"survive_{i}", terms, pulp.LpConstraintLE, -cut.constant)
            continue
        for j, worth in enumerate(cut.per_replica):
            if not worth:
                continue
            if j not in lost:
                lost[j] = _lost(problem, model, j, category)
            row = [*terms, (lost[j], -worth)]
            model.row(f"survive_{i}_{j}", row, pulp.LpConstraintLE, -cut.constant)


def _lost(problem: Problem, model: Model, j: int, category: str) -> pulp.LpVariable:
    n, per_node = model.replicas[j], float(problem.options[j].per_node)
    lost = model.lp.add_variable(f"lost_{j}", 0)
    full = model.lp.add_variable(f"full_{j}", 0, 1, category)
    row: Terms = [(n, 1.0), (lost, -1.0), (full, -enough_replicas(problem, j))]
    model.row(f"lost_all_{j}", row, pulp.LpConstraintLE, 0.0)
    model.row(f"lost_node_{j}", [(lost, 1.0), (full, -per_node)], pulp.LpConstraintGE, 0.0)
    return lost


def enough_replicas(problem: Problem, option: int) -> float:
    """Replicas of one option that carry all that it can serve by themselves while a node is
    missing: more of them, kept for a minimum, for moves or for the share of spot, add nothing.
    """
    work = float(np.nansum(problem.rates_rps * problem.load_s[:, option]))
    return float(max(np.ceil(work / (problem.limits.node_loss_headroom or 1.0)), 1.0))


def slack_terms(
    model: Model, kind: Kind, name: str, asked: float, sign: int, elastic: bool
) -> Terms:
    """The term that lets a limit be exceeded, if it may; ``sign`` is +1 for upper limits."""
    if not elastic:
        return []
    excess = model.lp.add_variable(f"excess_{len(model.slacks)}", 0)
    model.slacks.append(Slack(kind, name, asked, sign, 1.0 / max(abs(asked), 1.0), excess))
    return [(excess, -float(sign))]


def options_of(problem: Problem, stock: Stock) -> list[tuple[int, Option]]:
    return [(j, o) for j, o in enumerate(problem.options) if o.pool == stock.pool]
