"""Samples are bought where a vote of them helps, and another model where it does not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from serve_apps.router.policies.adaptive_solver import (
    AdaptiveSolver,
    Arm,
    fit_concentration,
    majority_accuracy,
)
from serve_apps.router.policies.base import Answer, NoFeasibleModelError
from tests.serve_apps.router.policies.asks import ask

ARMS = (Arm("small"), Arm("small", 5), Arm("large"), Arm("small", 1, "cot", "medium"))


def test_independent_samples_are_binomial_and_tied_ones_are_one() -> None:
    exact = sum(math.comb(5, k) * 0.7**k * 0.3 ** (5 - k) for k in (3, 4, 5))
    assert majority_accuracy(700, 5, 1e7) == pytest.approx(exact, abs=1e-4)
    assert majority_accuracy(700, 5, 1e-6) == pytest.approx(0.7, abs=1e-3)
    assert majority_accuracy(700, 1, 2.0) == pytest.approx(0.7, abs=1e-9)
    assert majority_accuracy(700, 2, 2.0) == pytest.approx(0.7, abs=1e-9)


def test_the_arm_depends_on_what_quality_is_worth() -> None:
    solver = AdaptiveSolver(ARMS, worth=0.0, concentration=100.0)
    request = ask(quality=(0.7, 0.72, 0.9))
    assert solver.choose(request).samples == 1
    many = solver.choose(ask(quality=(0.7, 0.72, 0.9), worth=60.0))
    assert (many.model, many.samples, many.final) == ("small", 5, False)
    assert solver.choose(ask(quality=(0.7, 0.72, 0.9), worth=1e4)).model == "large"


def test_a_prompt_strategy_is_an_arm_of_its_own() -> None:
    choice = AdaptiveSolver(ARMS, worth=15.0, concentration=0.1).choose(ask())
    assert (choice.model, choice.strategy) == ("small", "cot")


def test_hard_prompts_are_not_sampled_more() -> None:
    solver = AdaptiveSolver(ARMS[:3], worth=50.0, concentration=100.0)
    assert solver.choose(ask(quality=(0.2, 0.2, 0.25))).samples == 1


def test_most_samples_win() -> None:
    seen = [Answer("small", t) for t in ("4", "5", "5.0", "", "4")]
    assert AdaptiveSolver(ARMS, worth=1.0).choose(ask(), [*seen, Answer("small", "5")]).stands == 1


def test_nothing_feasible() -> None:
    with pytest.raises(NoFeasibleModelError):
        AdaptiveSolver(ARMS[:2], worth=1.0).choose(ask(feasible=(False, True, True)))


def test_concentration_is_found_again() -> None:
    rng = np.random.default_rng(0)
    chance = rng.beta(0.6 * 3, 0.4 * 3, 4000)
    right = rng.binomial(8, chance)
    assert fit_concentration(right.tolist(), 8) == pytest.approx(3.0, rel=0.1)
    assert fit_concentration(rng.binomial(8, 0.6, 4000).tolist(), 8) > 50
