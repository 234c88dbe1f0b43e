"""The pacer's price rises with overspending, and bounds it."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from serve_apps.router.policies.pacing import Pacer


def test_nothing_binds_at_first_and_after_saving() -> None:
    pacer = Pacer(2.0)
    assert pacer.worth == math.inf
    pacer.spend(4.0)
    assert 0 < pacer.worth < math.inf
    pacer.spend(0.0)
    assert pacer.worth == math.inf


@given(st.lists(st.floats(0, 20), min_size=1, max_size=60), st.floats(0.5, 5))
@settings(max_examples=25)
def test_overspending_is_bounded_by_the_price_reached(costs: list[float], budget: float) -> None:
    pacer = Pacer(budget, step=0.1)
    for cost in costs:
        pacer.spend(cost)
    over = sum(costs) / budget - len(costs)
    assert over <= pacer.price * budget / 0.1 + 1e-6
