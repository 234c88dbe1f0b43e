"""What quality and load are worth in a fleet: the exchange rates that the router uses.

With the replicas n given, the cheapest way to use them charges each replica option r its rent per
unit of useful load, p_r / headroom_r, and solves

    min   sum_cr rate_c load_cr x_cr p_r / headroom_r
    s.t.  sum_r x_cr                          = 1              dual: the price of class c
          sum_c rate_c load_cr x_cr           <= headroom_r n_r  dual nu_r: scarcity of option r
          sum_(c in k) rate_c (q_cr - Q_k) x_cr >= 0            dual lambda_k: worth of quality
          x_cr >= 0

over the rented options, with a quality row k for each stream that has a mean to reach and each
class that has a floor. Charging the rent is what makes the duals say anything: the cost of the
fleet is fixed, so without it every price would be zero wherever a group has room. It is the right
charge, for in the LP with replicas free a unit of load on any option that is bought, of stock
that suffices, costs just that. So the price of load is pi_r = p_r / headroom_r + nu_r, the rent
in a group with room and more in a full one, and by complementary slackness

    x_cr > 0   only where   lambda_c q_cr - load_cr pi_r   is highest,

lambda_c being the sum over the rows that c is in: the router's rule. Its argmax reproduces the
LP's assignment, ties aside.

Units: load is replica-seconds per request, times requests/s it is replicas kept at saturation;
pi_r is $/h per such replica; lambda is $/h per unit of quality at one request per second.
Dividing either side of the rule by 3600 gives dollars per request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from placement.checking import violations
from placement.explanation import Prices
from placement.mip import Mip, Solver
from placement.problem import Floats, Problem
from placement.solution import Solution, mean_quality
from placement.solver import DUST
from profiler.errors import OrchestratorError


@dataclass(frozen=True)
class QualityRow:
    """A mean quality to reach over some classes; ``name`` is a stream's, or a class's as text."""

    name: str
    is_floor: bool
    members: NDArray[np.bool_]
    target: float


@dataclass(frozen=True)
class FleetPrices:
    """The price LP's answer, in the terms of the problem.

    ``quality_usd_per_hour`` is lambda by row, for `rows`; ``load_usd_per_hour`` is pi
    ``[options]``, infinite for options that are not rented; ``scarcity_usd_per_hour`` is nu
    ``[options]``; ``class_usd_per_hour`` ``[classes]`` is $/h for one more request/s of the
    class; ``shares`` ``[classes, options]`` is the LP's assignment; ``objective_usd_per_hour``
    what it charges for it.
    """

    rows: tuple[QualityRow, ...]
    quality_usd_per_hour: Floats
    load_usd_per_hour: Floats
    scarcity_usd_per_hour: Floats
    class_usd_per_hour: Floats
    shares: Floats
    objective_usd_per_hour: float


def fleet_prices(problem: Problem, replicas: NDArray[np.int64], shares: Floats) -> FleetPrices:
    """Prices of quality and load in a fleet.

    ``replicas`` is ``[options]``; ``shares`` is any feasible assignment to them, ``[classes,
    options]``, such as the plan's: no limit is held tighter than it keeps it.

    Raises:
        OrchestratorError: the LP has no answer; a bug, for ``shares`` is one.
    """
    rows = quality_rows(problem, shares)
    lp = _PriceLp(problem, replicas, shares, rows)
    found = Solver(lp.program).solve(time_limit_s=np.inf)
    if found.values is None:
        raise OrchestratorError("the prices of the fleet were not found: its LP has no answer")
    duals = np.maximum(-found.duals, 0.0)
    nu = np.zeros(len(problem.options))
    nu[lp.rented] = duals[: len(lp.rented)]
    worth: Floats = duals[len(lp.rented) : len(lp.rented) + len(rows)]
    pi = np.where(replicas > 0, lp.rent + nu, np.inf)
    assigned = np.zeros(problem.load_s.shape)
    assigned[lp.rows, lp.columns] = found.values
    return FleetPrices(
        rows=rows,
        quality_usd_per_hour=worth,
        load_usd_per_hour=pi,
        scarcity_usd_per_hour=nu,
        class_usd_per_hour=-np.nanmax(net_worth(problem, rows, worth, pi), axis=1),
        shares=assigned,
        objective_usd_per_hour=found.objective,
    )


def settled(problem: Problem, solution: Solution) -> tuple[Solution, Prices]:
    """The fleet with the assignment that its own prices imply, and those prices.

    Of the many assignments that a fleet allows a solver returns any; this one takes the least
    rent's worth of capacity, and it is what a router does that goes by the prices.
    """
    found = fleet_prices(problem, solution.replicas, solution.shares)
    clean = np.where(found.shares < DUST, 0.0, found.shares)
    shares = clean / clean.sum(axis=1, keepdims=True)
    quality = None if solution.quality is None else mean_quality(problem, shares)
    better = replace(solution, shares=shares, quality=quality)
    kept = solution if violations(problem, better) else better
    return kept, to_plan(problem, found)


def utility(problem: Problem, prices: FleetPrices) -> Floats:
    """What one request/s of each class is worth on each option, $/h, ``[classes, options]``.

    ``lambda q - load pi``; NaN where the option cannot serve the class or is not rented.
    """
    free = tuple(replace(row, target=0.0) for row in prices.rows)
    return net_worth(problem, free, prices.quality_usd_per_hour, prices.load_usd_per_hour)


def net_worth(problem: Problem, rows: Sequence[QualityRow], worth: Floats, pi: Floats) -> Floats:
    """``sum_k lambda_k (q - Q_k) - load pi`` in $/h per request/s, ``[classes, options]``.

    ``worth`` is lambda ``[rows]``, ``pi`` ``[options]``. NaN where load or price is not finite.
    """
    value: Floats = -problem.load_s * np.where(np.isfinite(pi), pi, np.nan)
    for row, price in zip(rows, worth, strict=True):
        value = value + price * row.members[:, None] * (qualities(problem) - row.target)
    return value


def to_plan(problem: Problem, prices: FleetPrices) -> Prices:
    """The prices as the plan file has them, by names."""
    worth = list(zip(prices.rows, prices.quality_usd_per_hour, strict=True))
    load = zip(problem.options, prices.load_usd_per_hour, strict=True)
    classes = zip(problem.classes, prices.class_usd_per_hour, strict=True)
    return Prices(
        quality={row.name: _rounded(price) for row, price in worth if not row.is_floor},
        floors={row.name: _rounded(p) for row, p in worth if row.is_floor and _rounded(p)},
        load={o.name: _rounded(pi) for o, pi in load if np.isfinite(pi)},
        classes={str(c): _rounded(price) for c, price in classes},
    )


def qualities(problem: Problem) -> Floats:
    """Expected quality ``[classes, options]``; zeros where none is known."""
    return np.zeros(problem.load_s.shape) if problem.quality is None else problem.quality


def quality_rows(problem: Problem, shares: Floats | None = None) -> tuple[QualityRow, ...]:
    """The mean qualities to reach; with ``shares``, none higher than they reach it.

    With a budget, quality is what the plan made the most of: the row then asks for what it got.
    """
    streams = np.array([c.stream for c in problem.classes])
    targets = dict(problem.limits.quality_mean)
    if problem.limits.budget_usd_per_hour is not None and shares is not None:
        targets = dict.fromkeys(streams.tolist(), 1.0) | targets
    rows = [
        QualityRow(stream, False, streams == stream, target)
        for stream, target in targets.items()
        if (streams == stream).any()
    ]
    rows += [
        QualityRow(str(c), True, np.arange(len(streams)) == i, c.quality_floor)
        for i, c in enumerate(problem.classes)
        if c.quality_floor is not None
    ]
    if shares is not None:
        rows = [replace(r, target=min(r.target, row_quality(problem, shares, r))) for r in rows]
    return tuple(rows)


def row_quality(problem: Problem, shares: Floats, row: QualityRow) -> float:
    """Mean quality that an assignment gives the requests of a row."""
    rates = problem.rates_rps * row.members
    return float(rates @ (qualities(problem) * shares).sum(axis=1) / rates.sum())


class _PriceLp:
    """The price LP; its variables are the cells that a rented option can serve.

    Its rows are, in this order: room of each rented option, mean qualities, every class served.
    """

    def __init__(
        self,
        problem: Problem,
        replicas: NDArray[np.int64],
        shares: Floats,
        rows: Sequence[QualityRow],
    ) -> None:
        can = ~np.isnan(problem.load_s) & (replicas > 0)
        self.rows, self.columns = np.nonzero(can)
        self.rented = np.flatnonzero(replicas)
        self.rent = rents(problem)
        rates = problem.rates_rps
        work: Floats = rates[self.rows] * problem.load_s[can]
        cells = np.arange(len(self.rows))
        size = len(problem.classes), len(cells)
        served = sparse.csr_array((np.ones(len(cells)), (self.rows, cells)), size)
        position = np.cumsum(replicas > 0) - 1
        size = len(self.rented), len(cells)
        load = sparse.csr_array((work, (position[self.columns], cells)), size)
        gained = [
            -rates[self.rows] * row.members[self.rows] * (qualities(problem)[can] - row.target)
            for row in rows
        ]
        gains = sparse.csr_array(np.array(gained).reshape(len(rows), len(cells)))
        used = np.nansum(rates[:, None] * problem.load_s * shares, axis=0)
        room = np.maximum(problem.usable * replicas, used)[self.rented]
        at_most, ones = np.concatenate([room, np.zeros(len(rows))]), np.ones(len(problem.classes))
        self.program = Mip(
            cost=work * self.rent[self.columns],
            lower=np.zeros(len(cells)),
            upper=np.full(len(cells), np.inf),
            integer=np.zeros(len(cells), dtype=bool),
            rows=sparse.csr_array(sparse.vstack([load, gains, served])),
            row_lower=np.concatenate([np.full(len(at_most), -np.inf), ones]),
            row_upper=np.concatenate([at_most, ones]),
        )


def rents(problem: Problem) -> Floats:
    """Dollars per hour for one replica's worth of useful load, ``[options]``."""
    rent: Floats = np.array([o.usd_per_hour for o in problem.options]) / problem.usable
    return rent


def _rounded(usd: float) -> float:
    return round(float(usd), 6) + 0.0
