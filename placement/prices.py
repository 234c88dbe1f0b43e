"""What quality and load are worth in a fleet: the exchange rates that the router uses.

With the replicas n given, the cheapest way to use them charges each replica option r its rent per
unit of useful load, p_r / headroom, and solves

    min   sum_cr rate_c load_cr x_cr p_r / headroom
    s.t.  sum_r x_cr                         = 1             dual: the price of class c
          sum_c rate_c load_cr x_cr          <= headroom n_r  dual nu_r: scarcity of option r
          sum_c rate_c (q_cr - Q) x_cr       >= 0             dual lambda_Q: worth of quality
          x_cr >= 0

over the rented options. Charging the rent is what makes the duals say anything: the cost of the
fleet itself is fixed, so without it every price would be zero wherever a group has room. It is
the right charge, for in the LP with replicas free a unit of load on any option that is bought
costs just that. So the price of load is pi_r = p_r / headroom + nu_r, the rent in a group with
room and more in a full one, and by complementary slackness

    x_cr > 0   only where   lambda_Q q_cr - load_cr pi_r   is highest,

which is the router's rule: its argmax reproduces the LP's assignment, ties aside.

Units: load is replica-seconds per request, times requests/s it is replicas kept at saturation;
pi_r is $/h per such replica; lambda_Q is $/h per unit of quality at one request per second.
Dividing either side of the rule by 3600 gives dollars per request.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linprog

from placement.explanation import Prices
from placement.plan import AUTO
from placement.problem import Problem
from profiler.errors import OrchestratorError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FleetPrices:
    """The price LP's answer, in the terms of the problem.

    ``load_usd_per_hour`` is pi ``[options]``, infinite for options that are not rented;
    ``scarcity_usd_per_hour`` is nu ``[options]``; ``class_usd_per_hour`` ``[classes]`` is $/h for
    one more request/s of the class; ``shares`` ``[classes, options]`` is the LP's assignment;
    ``objective_usd_per_hour`` what it charges for it.
    """

    quality_usd_per_hour: float
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
    lp = _PriceLp(problem, replicas, shares)
    found = linprog(
        lp.cost,
        A_ub=lp.at_most,
        b_ub=lp.at_most_rhs,
        A_eq=lp.served,
        b_eq=np.ones(len(problem.classes)),
        method="highs",
    )
    if found.status != 0:
        raise OrchestratorError(f"the prices of the fleet were not found: {found.message}")
    duals = -found.ineqlin.marginals
    nu = np.zeros(len(problem.options))
    nu[lp.rented] = np.maximum(duals[: len(lp.rented)], 0.0)
    worth = max(float(duals[-1]), 0.0) if lp.has_quality else 0.0
    pi = np.where(replicas > 0, lp.rent + nu, np.inf)
    assigned = np.zeros(problem.load_s.shape)
    assigned[lp.rows, lp.columns] = found.x
    return FleetPrices(
        quality_usd_per_hour=worth,
        load_usd_per_hour=pi,
        scarcity_usd_per_hour=nu,
        class_usd_per_hour=-np.nanmax(_surplus(problem, worth, pi, lp.target), axis=1),
        shares=assigned,
        objective_usd_per_hour=float(found.fun),
    )


def utility(problem: Problem, prices: FleetPrices) -> Floats:
    """What sending one request/s of each class to each option is worth, $/h, ``[classes, options]``.

    ``lambda_Q q - load pi``; NaN where the option cannot serve the class or is not rented. Quality
    counts for the auto stream alone: other requests name their model.
    """
    return _surplus(problem, prices.quality_usd_per_hour, prices.load_usd_per_hour, 0.0)


def to_plan(problem: Problem, prices: FleetPrices) -> Prices:
    """The prices as the plan file has them, by names."""
    rented = np.isfinite(prices.load_usd_per_hour)
    return Prices(
        quality=_rounded(prices.quality_usd_per_hour),
        load={
            o.name: _rounded(pi)
            for o, pi, kept in zip(problem.options, prices.load_usd_per_hour, rented, strict=True)
            if kept
        },
        classes={
            str(c): _rounded(price)
            for c, price in zip(problem.classes, prices.class_usd_per_hour, strict=True)
        },
    )


class _PriceLp:
    """The matrices of the price LP; its variables are the cells that a rented option can serve."""

    def __init__(self, problem: Problem, replicas: NDArray[np.int64], shares: Floats) -> None:
        can = ~np.isnan(problem.load_s) & (replicas > 0)
        self.rows, self.columns = np.nonzero(can)
        self.rented = np.flatnonzero(replicas)
        self.rent = np.array([o.usd_per_hour for o in problem.options]) / problem.headroom
        rates, work = problem.rates_rps, self._work(problem)
        self.cost = work * self.rent[self.columns]
        cells = np.arange(len(self.rows))
        size = len(problem.classes), len(cells)
        self.served = sparse.csr_array((np.ones(len(cells)), (self.rows, cells)), shape=size)
        position = np.full(len(problem.options), -1)
        position[self.rented] = np.arange(len(self.rented))
        load_rows = sparse.csr_array(
            (work, (position[self.columns], cells)), shape=(len(self.rented), len(cells))
        )
        used = np.nansum(rates[:, None] * problem.load_s * shares, axis=0)
        room = np.maximum(problem.headroom * replicas, used)[self.rented]
        quality, auto = quality_matrix(problem), is_auto(problem)
        self.has_quality = problem.quality_target is not None and bool(auto.any())
        self.target = self._reached(problem, shares) if self.has_quality else 0.0
        surplus = rates[self.rows] * auto[self.rows]
        surplus = surplus * (quality[self.rows, self.columns] - self.target)
        quality_row = sparse.csr_array(-surplus[None, :] * self.has_quality)
        self.at_most = sparse.vstack([load_rows, quality_row], format="csr")
        self.at_most_rhs = np.append(room, 0.0)

    def _work(self, problem: Problem) -> Floats:
        """Replicas kept at saturation by all of a class on one option, ``[cells]``."""
        work: Floats = problem.rates_rps[self.rows] * problem.load_s[self.rows, self.columns]
        return work

    def _reached(self, problem: Problem, shares: Floats) -> float:
        """The quality asked, or the hair less that a solver's answer reaches."""
        auto = is_auto(problem)
        reached = float((problem.rates_rps * auto) @ (quality_matrix(problem) * shares).sum(axis=1))
        mean = reached / float((problem.rates_rps * auto).sum())
        return min(problem.quality_target or 0.0, mean)


def quality_matrix(problem: Problem) -> Floats:
    """Expected quality of each class on each option, ``[classes, options]``."""
    by_option = np.array([problem.quality.get(o.model, 0.0) for o in problem.options])
    return np.broadcast_to(by_option, problem.load_s.shape)


def is_auto(problem: Problem) -> NDArray[np.bool_]:
    """Which classes let the router choose the model, ``[classes]``."""
    return np.array([c.stream == AUTO for c in problem.classes])


def _surplus(problem: Problem, worth: float, pi: Floats, target: float) -> Floats:
    gain = worth * (quality_matrix(problem) - target) * is_auto(problem)[:, None]
    with np.errstate(invalid="ignore"):
        value: Floats = gain - problem.load_s * pi
    return np.where(np.isfinite(value), value, np.nan)


def _rounded(usd: float) -> float:
    return round(float(usd), 6) + 0.0
