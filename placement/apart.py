"""Which way a placement program is solved: whole, or each model apart; a `Runner` for `ilp.solve`."""

from __future__ import annotations

import time

import numpy as np
import pulp

from placement.decompose import Decomposed, solve_apart
from placement.mip import from_pulp, linking_rows
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

    Programs that fall apart, or do so but for a few shared limits, are decomposed. All others, LPs
    and second tries without presolve are handed to HiGHS whole.
    """
    deadline = time.monotonic() + time_limit_s
    whole = {"gap": gap, "presolve": presolve}
    if not (presolve and lp.isMIP()):
        return run_highs(lp, time_limit_s=time_limit_s, **whole)
    mip = from_pulp(lp)
    variables = lp.variables()
    shares = np.array([v.name.startswith(SHARE) for v in variables])
    linking, parts = linking_rows(mip, shares)
    if parts < 2 or (linking.any() and mip.integer.sum() < LEAST_INTEGERS):
        return run_highs(lp, time_limit_s=time_limit_s, **whole)
    found = solve_apart(mip, linking, time_limit_s=time_limit_s, gap=gap)
    if found.values is not None:
        for variable, value in zip(variables, found.values.tolist(), strict=True):
            variable.varValue = value
        return Outcome("solved", found.bound)
    if found.infeasible:
        return Outcome("infeasible")
    return run_highs(lp, time_limit_s=deadline - time.monotonic(), **whole)
