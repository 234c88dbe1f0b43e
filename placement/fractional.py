"""The LP relaxation and its duals: what limits cost, and at what price an option would pay.

Replicas may be bought in fractions, and the rows that ask for a replica wherever a share goes are
left out: they are about whole replicas. With w the duals of the load rows, y of the quality rows
and u of the classes, a share x_cr is in the optimum only where

    u_c = min_r ( rate_c load_cr w_r - y_c q_cr )

and, of the duals that do, those are taken whose w is highest: usable_r w_r is the whole price of
option r, its rent and its part of every limit on fleets (but for spare capacity against the loss
of a node, which is about whole fleets and is left out too). Then any other loads can be priced
without solving again: u from the new loads and the old w is feasible in the dual, so the sum of
what the u fall by is the most that the fractional optimum can fall (weak duality).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from placement.model import Model, build
from placement.moved import with_quality
from placement.plan import AUTO
from placement.prices import qualities, quality_rows, row_quality
from placement.problem import Problem
from placement.solver import TimeLimitError, run_highs
from profiler.errors import OrchestratorError

Floats = NDArray[np.float64]
TIME_LIMIT_S = 60.0
NEGLIGIBLE = 1e-6
"""Dollars per hour that are nothing."""


@dataclass(frozen=True)
class Fractional:
    """The fractional optimum and what it says of limits and options.

    ``replicas`` ``[options]`` are in fractions; ``load_usd_per_hour`` is w, ``[options]``;
    ``break_even_usd_per_hour`` ``[options]`` the price below which an option would be rented;
    ``duals`` $/h saved per unit that a limit is eased, by row name of `placement.model`.
    """

    usd_per_hour: float
    replicas: Floats
    load_usd_per_hour: Floats
    break_even_usd_per_hour: Floats
    duals: dict[str, float]
    _quality_worth: Floats

    def class_usd_per_hour(self, problem: Problem, load_s: Floats) -> Floats:
        """The price u of all requests of each class, ``[classes]``, at any loads."""
        work = problem.rates_rps[:, None] * load_s * self.load_usd_per_hour
        price: Floats = np.nanmin(work - self._quality_worth, axis=1)
        return price

    def saving_usd_per_hour(self, problem: Problem, load_s: Floats) -> float:
        """The most the fractional optimum could fall with other loads ``[classes, options]``."""
        before = self.class_usd_per_hour(problem, problem.load_s)
        return float((before - self.class_usd_per_hour(problem, load_s)).sum())


def cost_problem(problem: Problem, shares: Floats) -> Problem:
    """A problem in which cost is the aim: a budget gives way to the quality it bought."""
    if problem.limits.budget_usd_per_hour is None:
        return problem
    asked = with_quality(problem, AUTO, 1.0)
    rows = [r for r in quality_rows(asked) if r.name == AUTO and not r.is_floor]
    reached = min([row_quality(problem, shares, r) for r in rows], default=None)
    limits = replace(problem.limits, budget_usd_per_hour=None)
    return with_quality(replace(problem, limits=limits), AUTO, reached)


def fractional_optimum(problem: Problem) -> Fractional:
    """Solve the relaxation of a problem without a budget (see `cost_problem`).

    Raises:
        TimeLimitError: it was not solved in a minute.
        OrchestratorError: it has no answer, though the problem has; a bug.
    """
    model = build(problem, relax=True, opening=False)
    outcome = run_highs(model.lp, time_limit_s=TIME_LIMIT_S)
    if outcome.status == "no answer":
        raise TimeLimitError(f"the fractional optimum was not found in {TIME_LIMIT_S:g} s")
    if outcome.status == "infeasible":
        raise OrchestratorError("the fractional problem has no answer, though the whole one has")
    duals = {row.name: float(row.pi or 0.0) for row in model.lp.constraints()}
    w = _whole_price(problem, model, duals)
    worth = _quality_worth(problem, duals)
    u = np.array([duals[f"class_{c}"] for c in range(len(problem.classes))])
    least = _least_price(problem, u, worth)
    prices = np.array([o.usd_per_hour for o in problem.options])
    return Fractional(
        usd_per_hour=float(model.lp.objective.value()),
        replicas=np.array([v.value() or 0.0 for v in model.replicas]),
        load_usd_per_hour=w,
        break_even_usd_per_hour=prices - problem.usable * np.maximum(w - least, 0.0),
        duals={name: abs(pi) for name, pi in duals.items()},
        _quality_worth=worth,
    )


def _whole_price(problem: Problem, model: Model, duals: dict[str, float]) -> Floats:
    """w, raised by what is left of each option's reduced cost."""
    w = np.array([-duals.get(f"load_{r}", 0.0) for r in range(len(problem.options))])
    left = np.array([float(v.dj or 0.0) for v in model.replicas])
    raised: Floats = np.maximum(w, 0.0) + np.maximum(left, 0.0) / problem.usable
    return raised


def _quality_worth(problem: Problem, duals: dict[str, float]) -> Floats:
    """``y_c q_cr`` in $/h for all of a class, ``[classes, options]``."""
    per_class = np.zeros(len(problem.classes))
    streams = np.array([c.stream for c in problem.classes])
    for s, stream in enumerate(problem.limits.quality_mean):
        weights = problem.rates_rps * (streams == stream)
        per_class += duals.get(f"quality_{s}", 0.0) * weights / (weights.sum() or 1.0)
    per_class += [duals.get(f"floor_{c}", 0.0) for c in range(len(problem.classes))]
    worth: Floats = per_class[:, None] * qualities(problem)
    return worth


def _least_price(problem: Problem, u: Floats, worth: Floats) -> Floats:
    """The lowest w at which no class would pay to move to an option, ``[options]``."""
    work = problem.rates_rps[:, None] * problem.load_s
    paid = np.where(np.isnan(work), 0.0, (u[:, None] + worth) / work)
    least: Floats = np.maximum(paid.max(axis=0, initial=0.0), 0.0)
    return least
