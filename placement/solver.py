"""HiGHS runs what PuLP modelled; the outcome is read from HiGHS itself.

PuLP reports a time-out with or without an answer as optimal, so its own status is not used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import highspy
import numpy as np
import pulp

from placement.model import Model
from placement.problem import Floats, Problem
from placement.solution import Counts
from profiler.errors import InputError

INTEGER_TOLERANCE = 1e-9
"""How far from a whole number a replica count may be while solving."""

DUST = 1e-9
"""Shares below this are numerical noise."""


class TimeLimitError(InputError):
    """The solver found no answer in the time it was given; there may well be one."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended; ``bound`` is what HiGHS proved no answer's objective can be below."""

    status: Literal["solved", "infeasible", "no answer"]
    bound: float = 0.0


class Runner(Protocol):
    """Solves a program and leaves each variable's value in it."""

    def __call__(
        self, lp: pulp.LpProblem, *, time_limit_s: float, gap: float, presolve: bool
    ) -> Outcome: ...


def run_highs(
    lp: pulp.LpProblem, *, time_limit_s: float, gap: float = 0.0, presolve: bool = True
) -> Outcome:
    """Solve to a relative ``gap`` on one thread."""
    solver = pulp.HiGHS(
        msg=False,
        timeLimit=max(time_limit_s, 0.01),
        gapRel=gap,
        threads=1,
        mip_feasibility_tolerance=INTEGER_TOLERANCE,
        presolve="choose" if presolve else "off",
    )
    lp.solve(solver)
    highs = lp.solverModel
    status, states = highs.getModelStatus(), highspy.HighsModelStatus
    if status in (states.kInfeasible, states.kUnboundedOrInfeasible):
        return Outcome("infeasible")
    info = highs.getInfo()
    if info.primal_solution_status != highspy.kSolutionStatusFeasible:
        return Outcome("no answer")
    bound = info.mip_dual_bound if lp.isMIP() else info.objective_function_value
    return Outcome("solved", float(bound))


def values(problem: Problem, model: Model) -> tuple[Counts, Floats]:
    """Replica counts as whole numbers, and shares cleaned of dust that sum to one per class."""
    replicas = np.array([round(v.value() or 0) for v in model.replicas], dtype=np.int64)
    shares = _shares(problem, model)
    shares[(shares < DUST) | (replicas == 0)] = 0.0
    return replicas, _normalised(shares)


def fractions(problem: Problem, model: Model) -> tuple[Floats, Floats]:
    """Replica counts and shares as they are, of a program that buys in fractions."""
    counts = np.array([v.value() or 0.0 for v in model.replicas], dtype=float)
    return counts, _normalised(np.maximum(_shares(problem, model), 0.0))


def _shares(problem: Problem, model: Model) -> Floats:
    shares = np.zeros(problem.load_s.shape)
    for (c, r), var in zip(model.cells, model.shares, strict=True):
        shares[c, r] = var.value() or 0.0
    return shares


def _normalised(shares: Floats) -> Floats:
    """Rows that sum to one; a row of nothing stays so, for the check to find."""
    total = shares.sum(axis=1, keepdims=True)
    whole: Floats = np.divide(shares, total, out=np.zeros_like(shares), where=total > 0)
    return whole
