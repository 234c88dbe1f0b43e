"""Models vote where a vote is expected to beat the best of them alone, within the budget."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_apps.router.policies.base import Answer
from serve_apps.router.policies.ensemble import Ensemble, log_odds, vote_accuracy
from tests.serve_apps.router.policies.asks import ask

EVEN = {"quality": (0.7, 0.7, 0.7), "price": (1.0, 1.0, 1.0)}


@given(st.lists(st.floats(0.05, 0.95), min_size=1, max_size=5))
@settings(max_examples=25)
def test_vote_accuracy_is_the_sum_over_all_outcomes(quality: list[float]) -> None:
    total = 0.0
    for right in product((True, False), repeat=len(quality)):
        chance, lead = 1.0, 0.0
        for p, ok in zip(quality, right, strict=True):
            chance *= p if ok else 1 - p
            lead += log_odds(p) if ok else -log_odds(p)
        total += chance * (1.0 if lead > 1e-6 else 0.5 if lead > -1e-6 else 0.0)
    assert vote_accuracy(quality) == pytest.approx(total, abs=1e-6)
    assert vote_accuracy(quality) >= max(quality) - 1e-6


def test_three_equals_vote_and_the_majority_wins() -> None:
    policy = Ensemble(budget=3.0)
    first = policy.choose(ask(**EVEN))
    assert sorted(first.calls) == ["large", "medium", "small"]
    assert not first.final
    seen = [Answer("small", "4"), Answer("medium", "5"), Answer("large", "5.0")]
    won = policy.choose(ask(**EVEN), seen)
    assert won.final
    assert won.stands in {1, 2}


def test_one_answers_alone_where_a_vote_brings_nothing_or_costs_too_much() -> None:
    assert Ensemble(budget=99.0).choose(ask(quality=(0.5, 0.6, 0.95))).calls == ("large",)
    assert len(Ensemble(budget=2.0).choose(ask(**EVEN)).calls) == 1
    assert Ensemble(budget=0.1).choose(ask()).calls == ("small",)


def test_confidence_moves_a_vote() -> None:
    sure, unsure = {"p_first": 0.99}, {"p_first": 0.2}
    seen = [Answer("small", "4", sure), Answer("medium", "5", unsure), Answer("large", "5", unsure)]
    assert Ensemble(budget=3.0).choose(ask(**EVEN), seen).stands == 0


@given(st.tuples(*[st.floats(0, 1)] * 3), st.tuples(*[st.floats(0.1, 5)] * 3), st.floats(0.1, 9))
@settings(max_examples=25)
def test_the_budget_is_kept_wherever_one_model_fits_it(
    quality: tuple[float, ...], price: tuple[float, ...], budget: float
) -> None:
    request = ask(quality=quality, price=price)
    spent = sum(price[request.models.index(m)] for m in Ensemble(budget).choose(request).calls)
    assert spent <= max(budget, min(price)) + 1e-9
