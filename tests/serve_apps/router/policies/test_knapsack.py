"""The knapsacks find what trying every subset finds."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.errors import InfeasibleError
from serve_apps.router.policies.knapsack import assign, best_subset

items = st.lists(st.tuples(st.floats(-1, 3), st.floats(0.01, 3)), min_size=1, max_size=7)


@given(items, st.floats(0, 6))
@settings(max_examples=25)
def test_the_best_subset_is_that_of_brute_force(
    found: list[tuple[float, float]], budget: float
) -> None:
    value, cost = zip(*found, strict=True)
    chosen = best_subset(value, cost, budget)
    assert sum(cost[i] for i in chosen) <= budget + 1e-9
    best = max(
        sum(value[i] for i in some)
        for size in range(len(found) + 1)
        for some in combinations(range(len(found)), size)
        if sum(cost[i] for i in some) <= budget
    )
    assert sum(value[i] for i in chosen) >= best - 1e-9


def test_the_assignment_is_that_of_brute_force() -> None:
    rng = np.random.default_rng(3)
    value, cost = rng.random((5, 3)), rng.random((5, 3))
    budget = 1.8
    chosen = assign(value, cost, budget)
    rows = np.arange(5)
    assert cost[rows, chosen].sum() <= budget + 1e-6
    tried = [np.array(c) for c in product(range(3), repeat=5)]
    best = max(value[rows, c].sum() for c in tried if cost[rows, c].sum() <= budget)
    assert value[rows, chosen].sum() == pytest.approx(best)


def test_a_budget_below_the_cheapest_is_refused_with_its_cost() -> None:
    with pytest.raises(InfeasibleError, match="cost 2"):
        assign(np.ones((2, 2)), np.ones((2, 2)), 1.0)
