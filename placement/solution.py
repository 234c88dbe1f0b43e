"""An answer to a placement problem, and what it costs by the problem's own prices."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from placement.plan import AUTO
from placement.problem import Floats, Problem, Stock

Counts = NDArray[np.int64]
ROUNDING = 1e-7


@dataclass(frozen=True)
class Solution:
    """Replicas, nodes and shares, and how near they are proven to be to the best.

    ``replicas`` is ``[options]``, ``shares`` is ``[classes, options]`` with rows that sum to one,
    ``nodes`` is ``[stocks]``, zero for stocks not sold by the node. The bounds are on
    `objective_usd_per_hour`. ``quality_bound`` is set where a budget made quality the objective:
    no fleet within it has a higher mean.
    """

    replicas: Counts
    shares: Floats
    usd_per_hour: float
    lower_bound_usd_per_hour: float
    lp_bound_usd_per_hour: float
    nodes: Counts = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    switching_usd_per_hour: float = 0.0
    quality: float | None = None
    quality_bound: float | None = None

    @property
    def objective_usd_per_hour(self) -> float:
        """What is minimised: the rent, and the moves spread over their horizon."""
        return self.usd_per_hour + self.switching_usd_per_hour

    @property
    def preference(self) -> tuple[float, float]:
        """Less is better: quality first where a budget makes it the objective, then the cost."""
        quality = self.quality if self.quality_bound is not None else None
        return -round(quality or 0.0, 5), round(self.objective_usd_per_hour, 9)


def nodes_needed(problem: Problem, replicas: Counts) -> Counts:
    """Whole nodes to buy per stock, ``[stocks]``; 0 where accelerators are bought one by one.

    Where the loss of a node must be survived, groups share no node: what a node takes with it is
    then known, whoever places the replicas.
    """
    return np.array([_nodes(problem, s, replicas) for s in problem.stocks], dtype=np.int64)


def _nodes(problem: Problem, stock: Stock, replicas: Counts) -> int:
    if stock.node_gpus == 1:
        return 0
    held = [(int(n), o) for n, o in zip(replicas, problem.options, strict=True)]
    held = [(n, o) for n, o in held if o.pool == stock.pool]
    if problem.limits.node_loss_headroom is not None:
        return sum(-(-n // o.per_node) for n, o in held)
    return -(-sum(n * o.slot_gpus for n, o in held) // stock.node_gpus)


def rent_usd_per_hour(problem: Problem, replicas: Counts) -> float:
    """What the fleet costs: whole nodes where sold so, else replicas."""
    nodes = nodes_needed(problem, replicas)
    rent = sum(s.usd_per_node_hour * k for s, k in zip(problem.stocks, nodes, strict=True))
    return float(rent) + sum(
        o.usd_per_hour * int(n)
        for o, n in zip(problem.options, replicas, strict=True)
        if o.node_gpus == 1
    )


def switching_usd_per_hour(problem: Problem, replicas: Counts) -> float:
    """What starting and stopping replicas costs, spread over the horizon.

    A running group that is no option any more is stopped whatever is chosen, and is left out.
    """
    moving = problem.limits.switching
    if moving is None:
        return 0.0
    total = 0.0
    for o, n in zip(problem.options, replicas, strict=True):
        more = int(n) - moving.running.get(o.name, 0)
        total += more * moving.start_usd if more > 0 else -more * moving.stop_usd
    return total / moving.horizon_h


def priced(
    problem: Problem,
    replicas: Counts,
    shares: Floats,
    *,
    lower_bound: float,
    lp_bound: float | None = None,
) -> Solution:
    """A fleet and its shares as a solution, at the problem's prices.

    A bound that is over the cost by no more than rounding is the cost.
    """
    rent = rent_usd_per_hour(problem, replicas)
    moves = switching_usd_per_hour(problem, replicas)
    bounds = [lower_bound, lower_bound if lp_bound is None else lp_bound]
    cost = rent + moves
    lower, lp = (cost if abs(b - cost) <= ROUNDING * (1 + cost) else max(b, 0.0) for b in bounds)
    return Solution(
        replicas=replicas,
        shares=shares,
        usd_per_hour=rent,
        lower_bound_usd_per_hour=lower,
        lp_bound_usd_per_hour=lp,
        nodes=nodes_needed(problem, replicas),
        switching_usd_per_hour=moves,
        quality=mean_quality(problem, shares),
    )


def mean_quality(problem: Problem, shares: Floats, stream: str = AUTO) -> float | None:
    """Mean quality of a stream's requests; None where it has none, or quality is not known."""
    rates = problem.rates_rps * np.array([c.stream == stream for c in problem.classes])
    if problem.quality is None or rates.sum() <= 0:
        return None
    return float(rates @ (problem.quality * shares).sum(axis=1) / rates.sum())
