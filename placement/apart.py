"""Which way a placement program is solved: whole, or each model apart (a `solver.Runner`)."""

from __future__ import annotations

import time

import numpy as np
import pulp

from placement.decompose import Decomposed, solve_apart
from placement.mip import Solver, from_pulp, linking_rows
from placement.solver import Outcome, run_highs

SHARE = "x_"
"""How the names of the variables begin that say who serves what; see `model`."""

LEAST_INTEGERS = 20
"""Integer variables from which models that share limits are worth pricing apart: below that the
whole program takes HiGHS some tens of milliseconds, as much as the first prices do."""


def run_apart(
    lp: pulp.LpProblem, *, time_limit_s: float, gap: float, presolve: bool = True
) -> Outcome:
    """Solve and leave each variable's value in the program; see `solver.Runner`.

    Programs that fall apart, or do so but for a few shared limits, are decomposed; all others are
    handed to HiGHS whole. PuLP runs what is no MIP, and second tries without presolve.
    """
    deadline = time.monotonic() + time_limit_s
    if presolve and lp.isMIP():
        found = _solve(lp, time_limit_s, gap)
        if found.values is not None:
            for variable, value in zip(lp.variables(), found.values.tolist(), strict=True):
                variable.varValue = value
            return Outcome("solved", found.bound)
        if found.infeasible:
            return Outcome("infeasible")
    left_s = deadline - time.monotonic()
    return run_highs(lp, time_limit_s=left_s, gap=gap, presolve=presolve)


def _solve(lp: pulp.LpProblem, time_limit_s: float, gap: float) -> Decomposed:
    mip = from_pulp(lp)
    shares = np.array([v.name.startswith(SHARE) for v in lp.variables()])
    linking, parts = linking_rows(mip, shares)
    if parts > 1 and (mip.integer.sum() >= LEAST_INTEGERS or not linking.any()):
        return solve_apart(mip, linking, time_limit_s=time_limit_s, gap=gap)
    whole = Solver(mip).solve(time_limit_s=time_limit_s, gap=gap)
    return Decomposed(whole.values, whole.bound, whole.infeasible)
