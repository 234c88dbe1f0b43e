"""An answer's price is its load at the cheapest group's price, and leaving a cache costs."""

from __future__ import annotations

import math

import pytest

from serve_apps.router.pricing import GroupPrice, LivePrice, price_models


def group(name: str, model: str = "m", price: float = 1.0, feasible: bool = True) -> GroupPrice:
    """A group whose load is one per prefilled and ten per output token."""
    return GroupPrice(name, model, lambda p, o: p + 10 * o, price, feasible)


def test_the_cheapest_group_of_each_model_by_its_own_output_length() -> None:
    groups = [group("a", price=2.0), group("b"), group("c", "n"), group("d", "unasked")]
    found = price_models(["m", "n", "o"], groups, 100, [5, 20, 1])
    assert [(p.group, p.price) for p in found[:2]] == [("b", 150), ("c", 300)]
    assert not found[2].feasible
    assert found[2].price == math.inf


def test_a_group_that_would_be_late_is_left_out() -> None:
    found = price_models(["m"], [group("a", feasible=False), group("b", price=9)], 1, [0])
    assert found[0].group == "b"


def test_a_session_stays_where_its_prefix_lies_until_leaving_pays() -> None:
    cached = {"home": 900}
    groups = [group("home", price=2.0), group("away", price=1.0)]
    assert (
        price_models(["m"], groups, 1000, [0], cached)[0]
        == price_models(["m"], [group("home", price=2.0)], 100, [0])[0]
    )
    dear = [group("home", price=11.0), group("away", price=1.0)]
    assert price_models(["m"], dear, 1000, [0], cached)[0].group == "away"


def test_a_busy_group_grows_dear_and_a_quiet_one_costs_what_the_plan_says() -> None:
    price = LivePrice(2.0, base=1.0, target=0.8)
    assert price.now == 2.0
    rising = [price.observe(1.3, 1.0) for _ in range(3)]
    assert rising == sorted(rising)
    assert rising[0] == pytest.approx(2 + math.expm1(0.5))
    for _ in range(10):
        price.observe(0.1, 1.0)
    assert price.now == 2.0


def test_a_group_that_is_free_in_the_plan_can_grow_dear_too_but_not_without_bound() -> None:
    price = LivePrice(0.0, base=3.0, target=0.8, most=100)
    assert price.observe(2.0, 0.5) > 0
    assert price.observe(5.0, 1e6) == pytest.approx(3 * 99)
