"""Policies are replayed on outcomes, and every call they make is paid for."""

from __future__ import annotations

import numpy as np
import pytest

from serve_apps.router.estimates import Estimates
from serve_apps.router.evaluation.cascades import (
    CascadeTrial,
    answers_of,
    apgr_by_calls,
    apgr_by_cost,
)
from serve_apps.router.evaluation.replay import Replay, curve_of, replay
from serve_apps.router.outcomes import Outcomes
from serve_apps.router.policies.adaptive_solver import AdaptiveSolver, Arm
from serve_apps.router.policies.bandit import LinUcb
from serve_apps.router.policies.base import Policy
from serve_apps.router.policies.beliefs import Beliefs, fit_beliefs
from serve_apps.router.policies.cascade import Cascade
from serve_apps.router.policies.utility import Utility
from tests.serve_apps.router.evaluation.pools import MODELS, outcomes


def three(count: int = 100) -> Outcomes:
    """Two small models that agree where they are right, and a large one."""
    base = outcomes(count)
    rng = np.random.default_rng(1)
    second = np.where(base.score[:, 0] > 0, "4", rng.integers(10, 99, count).astype(str))
    assert base.answer is not None
    return Outcomes(
        prompts=base.prompts,
        dataset=base.dataset,
        subject=base.subject,
        models=("small", "other", "large"),
        score=base.score[:, [0, 0, 1]],
        output_tokens=np.full((count, 3), 10.0),
        input_tokens=np.full((count, 3), 5.0),
        usd=np.full((count, 3), np.nan),
        answer=np.stack([base.answer[:, 0], second, base.answer[:, 1]], axis=1),
    )


def run(policy: Policy, table: Outcomes, cost: tuple[float, ...]) -> Replay:
    shape = table.score.shape
    told = Estimates(
        table.models,
        np.tile(np.linspace(0.5, 0.95, shape[1]), (shape[0], 1)),
        np.zeros(shape),
        np.ones(shape),
    )
    costs = np.tile(cost, (shape[0], 1))
    return replay(policy, table, told, costs, costs)


def beliefs(table: Outcomes) -> Beliefs:
    prior = np.tile([0.5, 0.95], (len(table.prompts), 1))
    return fit_beliefs(
        ("small", "other"), "large", prior, answers_of(table, ("small", "other")), table.score
    )


def test_a_policy_of_one_call() -> None:
    found = run(Utility(0.0), outcomes(), (1.0, 10.0))
    assert found.cost.tolist() == [1.0] * 120
    assert found.calls.tolist() == [1] * 120
    assert found.quality.tolist() == outcomes().score[:, 0].tolist()


def test_a_cascade_pays_for_all_it_asks_and_its_trial_counts_the_same() -> None:
    table = three()
    known = beliefs(table)
    cost = (1.0, 0.5, 10.0)
    prior = np.tile([0.5, 0.95], (len(table.prompts), 1))
    costs = np.tile(cost, (len(table.prompts), 1))
    trial = CascadeTrial(known, prior, costs, table, costs)
    for worth in (0.0, 12.0, 40.0):
        found = run(Cascade(known, worth), table, cost)
        assert found.quality == pytest.approx(trial(worth).quality)
        assert found.cost == pytest.approx(trial(worth).cost)
        assert (found.calls == trial(worth).calls).all()
    spent = run(Cascade(known, 40.0), table, cost)
    escalated = spent.model == 2
    assert spent.cost[~escalated] == pytest.approx(1.5)
    assert spent.cost[escalated] == pytest.approx(11.5)
    assert spent.quality.mean() > 0.95


def test_apgr_of_a_cascade_counts_its_probes() -> None:
    table = three()
    prior = np.tile([0.5, 0.95], (len(table.prompts), 1))
    weak, strong = table.score[:, 0], table.score[:, 2]

    def measured(probe: float) -> float:
        cost = np.tile([1.0, probe, 10.0], (len(weak), 1))
        trial = CascadeTrial(beliefs(table), prior, cost, table, cost)
        runs = [trial(w) for w in (0.0, *np.geomspace(1, 1e4, 20))]
        return apgr_by_cost(runs, (1.0, weak.mean()), (10.0, strong.mean()))

    assert 0.5 < measured(2.0) < measured(0.5) < measured(0.01)
    cost = np.tile([1.0, 0.5, 10.0], (len(weak), 1))
    trial = CascadeTrial(beliefs(table), prior, cost, table, cost)
    by_calls = apgr_by_calls(*trial.by_calls(), weak, strong)
    assert by_calls == pytest.approx(1 - 0.5 * (strong - weak).mean(), abs=0.02)


def test_a_learning_policy_is_told_what_came_of_it() -> None:
    table = outcomes()
    policy = LinUcb(MODELS, worth=1e9)
    run(policy, table, (1.0, 10.0))
    assert np.abs(policy.arrays()["sum"]).sum() > 0


def test_what_the_outcomes_do_not_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="one answer per model"):
        run(AdaptiveSolver((Arm("large", 3),), worth=1.0), outcomes(), (1.0, 10.0))


def test_runs_make_a_curve() -> None:
    table = outcomes()
    runs = [run(Utility(w), table, (1.0, 10.0)) for w in (1e9, 0.0)]
    curve = curve_of(runs)
    assert curve.cost.tolist() == [1.0, 10.0]
    assert curve.quality[1] == 1.0
