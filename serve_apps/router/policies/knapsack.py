"""The best subset under a budget, and the best option for each prompt of a batch under one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from profiler.errors import InfeasibleError

Floats = NDArray[np.float64]


def best_subset(value: Sequence[float], cost: Sequence[float], budget: float) -> tuple[int, ...]:
    """Positions of the items of the highest total value that together cost at most ``budget``.

    Exact, for real costs: keeps the subsets that no other beats in both cost and value
    (Nemhauser and Ullmann, Management Science 15, 1969). Items of no value are left out.
    """
    front: list[tuple[float, float, tuple[int, ...]]] = [(0.0, 0.0, ())]
    for i, (v, c) in enumerate(zip(value, cost, strict=True)):
        if v <= 0 or c > budget:
            continue
        with_it = [
            (fc + c, fv + v, (*items, i)) for fc, fv, items in front if fc + c <= budget + 1e-12
        ]
        front = _undominated(sorted(front + with_it, key=lambda s: (s[0], -s[1])))
    return front[-1][2]


def _undominated(
    ordered: list[tuple[float, float, tuple[int, ...]]],
) -> list[tuple[float, float, tuple[int, ...]]]:
    kept: list[tuple[float, float, tuple[int, ...]]] = []
    for state in ordered:
        if not kept or state[1] > kept[-1][1]:
            kept.append(state)
    return kept


def assign(value: Floats, cost: Floats, budget: float) -> NDArray[np.int64]:
    """One option for each prompt, of the highest total value within a budget for all; [n, options].

    The multiple-choice knapsack, solved to optimality by HiGHS.

    Raises:
        InfeasibleError: the cheapest options together cost more than the budget.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_array

    prompts, options = value.shape
    least = float(cost.min(axis=1).sum())
    if least > budget:
        raise InfeasibleError(f"budget: found {budget:g}, the cheapest options cost {least:g}")
    flat = np.arange(value.size)
    one_each = coo_array((np.ones(value.size), (flat // options, flat)))
    found = milp(
        -value.ravel(),
        integrality=np.ones(value.size, dtype=np.int64),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(one_each, 1, 1),
            LinearConstraint(cost.reshape(1, -1), -np.inf, budget),
        ],
        options={"mip_rel_gap": 0.0},
    )
    if found.x is None:
        raise InfeasibleError(f"budget: found {budget:g}; the solver says {found.message}")
    return np.asarray(found.x.reshape(prompts, options).argmax(axis=1), dtype=np.int64)
