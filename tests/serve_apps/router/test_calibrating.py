"""Calibration chooses as the policy does, and never promises what its prompts do not show."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_apps.router.calibrating import Tried, choices, try_all
from serve_apps.router.policies.base import Ask
from serve_apps.router.policies.utility import Utility


def tried(seed: int, prompts: int = 60, models: int = 3) -> Tried:
    """Dearer models are better, and the estimates know something of it."""
    rng = np.random.default_rng(seed)
    ability = rng.random((prompts, 1)) + np.linspace(-0.4, 0.2, models)
    score = (ability > 0.4).astype(float)
    price = rng.random((prompts, models)) * 0.1 + np.linspace(0.1, 2.0, models)
    spent = price * rng.uniform(0.5, 1.5, price.shape)
    expected = np.clip(ability + rng.normal(0, 0.1, ability.shape), 0, 1)
    return try_all(expected, price, score, spent)


@given(seed=st.integers(0, 999), worth=st.floats(0, 50) | st.just(float("inf")))
@settings(max_examples=40)
def test_choices_are_those_of_the_policy(seed, worth):
    found = tried(seed, prompts=4)
    policy = Utility(worth)
    for row, chosen in enumerate(choices(found.expected, found.price, worth)):
        ask = Ask(("a", "b", "c"), found.expected[row].tolist(), found.price[row].tolist())
        assert policy.choose(ask).calls == (("a", "b", "c")[chosen],)


@given(seed=st.integers(0, 999), share=st.floats(0.2, 1.0))
@settings(max_examples=40)
def test_what_is_found_reaches_the_target_at_the_least_cost(seed, share):
    found = tried(seed)
    worth = found.cheapest_with(share)
    needed = share * found.score[:, found.best].mean()
    if worth is None:
        assert found.quality.max() < needed
        return
    look = found.outlook(worth, np.random.default_rng(0), draws=50)
    assert look.share.value >= share - 1e-9
    assert (found.cost[found.quality >= needed] >= look.cost.value - 1e-9).all()
    assert abs(sum(i.value for i in look.mix) - 1) < 1e-9


@given(seed=st.integers(0, 999), cost=st.floats(0.05, 3.0))
@settings(max_examples=40)
def test_a_budget_is_kept_and_used(seed, cost):
    found = tried(seed)
    worth = found.best_within(cost)
    if worth is None:
        assert found.cost.min() > cost
        return
    look = found.outlook(worth, np.random.default_rng(0), draws=50)
    assert look.cost.value <= cost + 1e-9
    assert (found.quality[found.cost <= cost] <= look.quality.value + 1e-9).all()


def test_both_ends_are_tried():
    found = tried(1)
    assert found.worths[0] == 0 and np.isinf(found.worths[-1])
    cheapest = found.price.argmin(axis=1)
    assert (choices(found.expected, found.price, 0.0) == cheapest).all()
