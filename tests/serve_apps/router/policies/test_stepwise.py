"""A controller learns when the large model should go on with a chain, and keeps a budget."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from serve_apps.router.policies.base import Answer, NoFeasibleModelError
from serve_apps.router.policies.steps import Step
from serve_apps.router.policies.stepwise import (
    WIDTH,
    Stepwise,
    calibrated,
    run_chain,
    trace_thresholds,
    train,
)
from tests.serve_apps.router.policies.asks import pair


class Planted:
    """Three steps; on hard prompts only the large model keeps the chain right. It costs 0.2."""

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self.quality = (0.0, 0.0)

    async def start(self) -> None:
        self._hard = self._rng.random() < 0.5
        self.quality = (0.1, 0.9) if self._hard else (0.9, 0.9)
        self._right, self._taken = True, 0

    async def step(self, model: int) -> Step:
        self._right &= bool(model) or not self._hard
        self._taken += 1
        done = self._taken == 3
        answer = Answer("?", signals={"lp": 0.0, "finished": float(done)})
        return Step(answer, 0.2 * model, done, float(self._right) if done else float("nan"))


def controller(**changes: object) -> Stepwise:
    weights = np.zeros(WIDTH)
    weights[3] = 1.0  # the gap between the estimates
    return dataclasses.replace(Stepwise("weak", "strong", weights, threshold=0.2), **changes)


def test_it_calls_the_model_its_score_asks_for_one_step_at_a_time() -> None:
    choice = controller().choose(pair(0.2, 0.9))
    assert (choice.model, choice.strategy, choice.final) == ("strong", "step", False)
    assert controller().choose(pair(0.8, 0.9)).model == "weak"
    assert controller(threshold=0.9).choose(pair(0.2, 0.9)).model == "weak"


def test_a_finished_chain_stands() -> None:
    seen = [Answer("weak", "a", {"finished": 0.0}), Answer("strong", "ab", {"finished": 1.0})]
    assert controller().choose(pair(), seen).stands == 1


def test_a_late_model_leaves_the_step_to_the_other() -> None:
    assert controller().choose(pair(0.2, 0.9, feasible=(True, False))).model == "weak"
    with pytest.raises(NoFeasibleModelError):
        controller().choose(pair(feasible=(False, False)))


async def test_it_learns_to_spend_on_hard_prompts_alone() -> None:
    rng = np.random.default_rng(0)
    policy = await train(Planted(), "weak", "strong", worth=2.0, rng=rng, episodes=600)
    chains = [await run_chain(Planted(seed), policy) for seed in range(40)]
    assert np.mean([c.score for c in chains]) > 0.95
    assert np.mean([c.cost for c in chains]) < 0.45


async def test_the_calibrated_threshold_keeps_the_budget() -> None:
    policy = controller()
    settings = await trace_thresholds(Planted(), policy, chains=60, points=5)
    thrifty = calibrated(policy, settings, budget=0.1)
    chains = [await run_chain(Planted(seed), thrifty) for seed in range(20)]
    assert np.mean([c.cost for c in chains]) <= 0.1
    rich = calibrated(policy, settings, budget=1.0)
    assert max(s.score for s in settings) == next(
        s.score for s in settings if s.threshold == rich.threshold
    )
    cheapest = calibrated(policy, settings, budget=-1.0)
    assert min(settings, key=lambda found: found.cost).threshold == cheapest.threshold
