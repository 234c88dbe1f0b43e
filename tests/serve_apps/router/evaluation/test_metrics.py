"""The metrics agree with figures worked out by hand, and with what must hold of any router."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_apps.router.evaluation.metrics import (
    Curve,
    aiq,
    apgr,
    area,
    best_single,
    cost_at_quality,
    cost_range,
    cost_to_reach,
    cpt,
    oracle,
    oracle_share,
    pgr_curve,
    realised,
    tradeoff_curve,
    upper_hull,
    zero_router,
)

WEAK = np.array([1.0, 0.0, 0.0, 1.0])
STRONG = np.array([1.0, 1.0, 1.0, 0.0])
"""w = 1/2, s = 3/4: the strong model gains on prompts 1 and 2, loses on 3."""


def pool(seed: int, prompts: int = 40, models: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and costs that rise with the model."""
    rng = np.random.default_rng(seed)
    quality = (rng.random((prompts, models)) < np.linspace(0.3, 0.8, models)).astype(float)
    cost = rng.uniform(0.5, 1.5, (prompts, models)) * 4.0 ** np.arange(models)
    return quality, cost


def test_perfect_ranking_by_hand() -> None:
    curve = pgr_curve(np.array([0.5, 0.9, 0.8, 0.1]), WEAK, STRONG)
    assert curve.cost.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert curve.quality.tolist() == [0, 1, 2, 2, 1]
    # Trapezes of width 1/4: 0.5 + 1.5 + 2 + 1.5.
    assert area(curve) == pytest.approx(5.5 / 4)


def test_cpt_is_the_first_crossing_of_the_running_maximum() -> None:
    score = np.array([0.5, 0.9, 0.1, 0.8])  # gain, loss, nothing, gain
    assert pgr_curve(score, WEAK, STRONG).quality.tolist() == [0, 1, 0, 0, 1]
    assert cpt(score, WEAK, STRONG, 0.5) == pytest.approx(0.125)
    assert cpt(score, WEAK, STRONG, 1.0) == pytest.approx(0.25)
    assert cpt(score, WEAK, STRONG, 1.5) == float("inf")


def test_all_tied_is_the_straight_line() -> None:
    assert apgr(np.zeros(4), WEAK, STRONG) == pytest.approx(0.5)
    assert cpt(np.zeros(4), WEAK, STRONG, 0.8) == pytest.approx(0.8)


def test_a_tie_is_the_mean_over_its_orders() -> None:
    broken = [apgr(np.array([1.0, s, 1 - s, 0.0]), WEAK, STRONG) for s in (0.4, 0.6)]
    assert apgr(np.array([1.0, 0.5, 0.5, 0.0]), WEAK, STRONG) == pytest.approx(np.mean(broken))


def test_equal_models_have_no_apgr() -> None:
    assert np.isnan(apgr(np.arange(4.0), WEAK, WEAK))


@given(st.integers(0, 10_000))
@settings(max_examples=30)
def test_random_is_one_half_on_average_and_a_score_and_its_reverse_sum_to_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weak, strong = rng.random(30), rng.random(30) + 0.5
    score = rng.random(30)
    both = apgr(score, weak, strong) + apgr(-score, weak, strong)
    assert both == pytest.approx(1.0)


@given(st.integers(0, 10_000))
@settings(max_examples=30)
def test_no_score_beats_the_true_gain(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weak, strong = rng.random(30), rng.random(30) + 0.5
    assert apgr(rng.random(30), weak, strong) <= apgr(strong - weak, weak, strong) + 1e-12


def test_hull_by_hand() -> None:
    hull = upper_hull(np.array([1.0, 2, 3, 4, 1]), np.array([0.2, 0.3, 0.8, 0.7, 0.1]))
    assert hull.cost.tolist() == [1, 3]
    assert hull.quality.tolist() == [0.2, 0.8]
    assert hull.at(2.0) == pytest.approx(0.5)
    assert hull.at(9.0) == pytest.approx(0.8)
    assert hull.at(0.5) == 0.0


@given(st.integers(0, 10_000), st.integers(1, 30))
def test_hull_dominates_every_point_and_is_concave(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    cost, quality = rng.integers(1, 8, count).astype(float), rng.integers(0, 8, count) / 8
    hull = upper_hull(cost, quality)
    assert (hull.at(cost) >= quality - 1e-12).all()
    steps = np.diff(hull.quality) / np.diff(hull.cost)
    assert (steps > 0).all()
    assert (np.diff(steps) < 0).all()


def test_aiq_by_hand() -> None:
    curve = Curve(np.array([1.0, 3.0]), np.array([0.2, 0.8]))
    assert aiq(curve, 1, 3) == pytest.approx(0.5)
    assert aiq(curve, 1, 5) == pytest.approx((2 * 0.5 + 2 * 0.8) / 4)
    # Nothing is answered for less than the first point costs.
    assert aiq(curve, 0, 3) == pytest.approx(1.0 / 3)
    assert aiq(curve, 0, 0.5) == 0.0


def test_pool_metrics_by_hand() -> None:
    quality = np.array([[0.0, 1.0], [1.0, 1.0], [0.0, 1.0], [0.0, 0.0]])
    cost = np.tile([1.0, 5.0], (4, 1))
    assert realised(np.array([0, 1, 1, 0]), quality, cost) == (3.0, 0.5)
    assert best_single(quality, cost) == 1
    assert cost_range(quality, cost) == (1.0, 5.0)
    zero = zero_router(quality, cost)
    assert (zero.cost.tolist(), zero.quality.tolist()) == ([1, 5], [0.25, 0.75])
    # 95 % of 0.75 lies 0.4625 / 0.5 of the way.
    assert cost_at_quality(zero, quality, cost, 0.95) == pytest.approx((1 + 4 * 0.925) / 5)
    assert oracle(quality, cost) == (3.0, 0.75)
    perfect = tradeoff_curve(quality, cost, quality, cost)
    assert (perfect.cost.tolist(), perfect.quality.tolist()) == ([1, 3], [0.25, 0.75])
    assert oracle_share(perfect, quality, cost) == pytest.approx(1.0)
    assert oracle_share(zero, quality, cost) == pytest.approx(0.0)


def test_cost_to_reach_what_is_there_already() -> None:
    assert cost_to_reach(Curve(np.array([2.0, 3.0]), np.array([0.5, 0.6])), 0.4) == 2.0


@given(st.integers(0, 10_000))
@settings(max_examples=40)
def test_the_tradeoff_curve_holds_every_choice_by_utility(seed: int) -> None:
    quality, cost = pool(seed)
    rng = np.random.default_rng(seed)
    expected, price = rng.random(quality.shape), rng.uniform(0.5, 2, quality.shape)
    curve = tradeoff_curve(expected, price, quality, cost)
    for worth in (0.0, 0.3, 1.0, 3.0, 1e9):
        found = realised((worth * expected - price).argmax(axis=1), quality, cost)
        near = np.abs(curve.cost - found[0]) + np.abs(curve.quality - found[1])
        assert near.min() < 1e-9


@given(st.integers(0, 10_000))
@settings(max_examples=40)
def test_oracle_bounds_every_router_and_blind_routing_never_passes_the_zero_router(
    seed: int,
) -> None:
    quality, cost = pool(seed)
    rng = np.random.default_rng(seed)
    perfect = tradeoff_curve(quality, cost, quality, cost)
    hull = upper_hull(perfect.cost, perfect.quality)
    choice = rng.integers(3, size=len(quality))
    spent, reached = realised(choice, quality, cost)
    assert reached <= hull.at(spent) + 1e-9
    assert oracle(quality, cost)[1] >= reached
    # Every mix of single models lies on or under the zero router.
    mix = rng.dirichlet(np.ones(3))
    assert mix @ quality.mean(0) <= zero_router(quality, cost).at(mix @ cost.mean(0)) + 1e-9
    low, high = cost_range(quality, cost)
    assert aiq(perfect, low, high) >= aiq(zero_router(quality, cost), low, high) - 1e-9


def test_with_equal_prices_two_models_are_ranked_by_their_gap() -> None:
    rng = np.random.default_rng(5)
    quality, _ = pool(5, prompts=50, models=2)
    expected = np.stack([rng.random(50), rng.random(50) + 1], axis=1)
    ones = np.tile([0.0, 1.0], (50, 1))
    curve = tradeoff_curve(expected, ones, quality, ones)
    ranked = pgr_curve(expected[:, 1] - expected[:, 0], quality[:, 0], quality[:, 1])
    weak, strong = quality.mean(axis=0)
    assert curve.cost == pytest.approx(ranked.cost)
    assert curve.quality == pytest.approx(weak + ranked.quality * (strong - weak))
