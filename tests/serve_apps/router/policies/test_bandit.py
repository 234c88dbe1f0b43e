"""Bandits learn where the estimates are wrong, and keep within a budget while they do."""

from __future__ import annotations

import numpy as np
import pytest

from serve_apps.router.policies.bandit import LinUcb, Thompson
from serve_apps.router.policies.pacing import Pacer
from tests.serve_apps.router.policies.asks import MODELS, ask

TRUE = (0.9, 0.5, 0.4)
"""The estimates say the opposite: 0.5, 0.7, 0.8."""


def bandit(kind: str, **settings: object) -> LinUcb | Thompson:
    if kind == "lin_ucb":
        return LinUcb(MODELS, **settings)
    return Thompson(MODELS, rng=np.random.default_rng(1), **settings)


def regrets(policy: LinUcb | Thompson, rounds: int) -> np.ndarray:
    rng = np.random.default_rng(2)
    lost = []
    for _ in range(rounds):
        chosen = MODELS.index(policy.choose(ask()).model)
        policy.learn(ask(), MODELS[chosen], float(rng.random() < TRUE[chosen]), 1.0)
        lost.append(max(TRUE) - TRUE[chosen])
    return np.array(lost)


@pytest.mark.parametrize("kind", ["lin_ucb", "thompson"])
def test_regret_falls_on_a_planted_problem(kind: str) -> None:
    lost = regrets(bandit(kind), 600)
    assert lost[-200:].mean() < 0.25 * lost[:50].mean()


def test_without_feedback_it_goes_by_the_estimates() -> None:
    assert LinUcb(MODELS, optimism=0.0).choose(ask()).model == "large"
    assert LinUcb(MODELS, optimism=0.0, worth=0.0).choose(ask()).model == "small"


def test_it_learns_for_which_prompts_a_model_is_good() -> None:
    rng = np.random.default_rng(0)
    policy = LinUcb(MODELS, dimensions=1)
    for _ in range(400):
        x = rng.choice([-1.0, 1.0])
        request = ask(quality=(0.5, 0.5, 0.5), features=np.array([x]))
        model = policy.choose(request).model
        good = {"small": x > 0, "medium": x < 0, "large": False}[model]
        policy.learn(request, model, float(good), 1.0)
    for x, best in ((1.0, "small"), (-1.0, "medium")):
        request = ask(quality=(0.5, 0.5, 0.5), features=np.array([x]))
        assert policy.choose(request).model == best


def test_a_request_s_preference_conditions_the_choice() -> None:
    policy = LinUcb(MODELS, optimism=0.0, worth=20.0)
    assert policy.choose(ask()).model == "medium"
    assert policy.choose(ask(worth=0.0)).model == "small"
    assert policy.choose(ask(worth=1000.0)).model == "large"


@pytest.mark.parametrize("kind", ["lin_ucb", "thompson"])
def test_pacing_keeps_the_budget_whatever_the_request_wants(kind: str) -> None:
    policy = bandit(kind, pacer=Pacer(4.0))
    cost = {"small": 1.0, "medium": 3.0, "large": 10.0}
    rng = np.random.default_rng(4)
    spent = []
    for _ in range(1000):
        quality = tuple(np.sort(rng.random(3)))
        request = ask(quality=quality, worth=1e9)
        model = policy.choose(request).model
        spent.append(cost[model])
        policy.learn(request, model, quality[MODELS.index(model)], cost[model])
    assert np.mean(spent[300:]) < 4.0 * 1.05
    # A budget is there to be used.
    assert np.mean(spent[300:]) > 4.0 * 0.9


def test_what_was_learned_survives_a_restart_and_a_new_model_starts_afresh() -> None:
    first = LinUcb(MODELS)
    regrets(first, 300)
    again = LinUcb(("new", *MODELS)).restore(first.arrays())
    assert again.choose(ask()).model == first.choose(ask()).model == "small"
