"""Utility weighs quality against price, among the models that would be in time."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_apps.router.policies.base import NoFeasibleModelError
from serve_apps.router.policies.utility import Utility
from tests.serve_apps.router.policies.asks import MODELS, ask

unit = st.floats(0, 1)


def test_worthless_quality_is_bought_cheapest_and_priceless_quality_best() -> None:
    assert Utility(0.0).choose(ask()).model == "small"
    assert Utility(math.inf).choose(ask()).model == "large"
    assert Utility(1e9).choose(ask()).model == "large"
    # 0.2 more for 2, then 0.1 more for 7.
    assert Utility(9.9).choose(ask()).model == "small"
    assert Utility(10.1).choose(ask()).model == "medium"
    assert Utility(71.0).choose(ask()).model == "large"


def test_of_equals_the_cheaper() -> None:
    assert Utility(math.inf).choose(ask(quality=(0.7, 0.7, 0.7))).model == "small"


def test_a_request_s_own_worth_rules() -> None:
    assert Utility(0.0).choose(ask(worth=1e9)).model == "large"


def test_only_models_in_time_are_chosen() -> None:
    assert Utility(0.0).choose(ask(feasible=(False, True, True))).model == "medium"
    with pytest.raises(NoFeasibleModelError):
        Utility(0.0).choose(ask(feasible=(False, False, False)))


def test_caution_counts_against_what_is_uncertain() -> None:
    unsure = ask(quality_sd=(0.01, 0.01, 0.3))
    assert Utility(1e9, caution=1.0).choose(unsure).model == "medium"


@given(st.tuples(unit, unit, unit), st.tuples(unit, unit, unit), unit, st.floats(0, 10))
@settings(max_examples=25)
def test_a_dearer_model_is_never_chosen_more(
    quality: tuple[float, ...], price: tuple[float, ...], extra: float, worth: float
) -> None:
    before = Utility(worth).choose(ask(quality=quality, price=price)).model
    for i, model in enumerate(MODELS):
        raised = tuple(p + extra * (i == j) for j, p in enumerate(price))
        after = Utility(worth).choose(ask(quality=quality, price=raised)).model
        assert after != model or before == model


@given(st.tuples(unit, unit, unit), st.tuples(unit, unit, unit), st.floats(0, 5), st.floats(0, 5))
@settings(max_examples=25)
def test_more_worth_never_buys_less_quality(
    quality: tuple[float, ...], price: tuple[float, ...], worth: float, more: float
) -> None:
    request = ask(quality=quality, price=price)
    at = [MODELS.index(Utility(w).choose(request).model) for w in (worth, worth + more)]
    assert quality[at[1]] >= quality[at[0]] - 1e-9
