"""The factorisation finds planted structure through noise and gaps."""

import numpy as np
import pytest

from serve_apps.router.estimators.low_rank import LowRankScorer, factorise
from serve_apps.router.estimators.preferences import loss_of, preferences_of
from serve_apps.router.estimators.scorer import Table
from serve_apps.router.features.hand import NAMES


def test_factors_recover_what_noise_and_gaps_hide():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(300, 2)) @ rng.normal(size=(2, 20)) * 0.3
    seen = truth + rng.normal(0, 0.4, truth.shape)
    seen[rng.random(seen.shape) < 0.3] = np.nan
    mean, factors, loadings = factorise(seen, 2, rng)
    error = ((mean + factors @ loadings.T - truth) ** 2).mean()
    assert error < 0.25 * np.nanmean((seen - truth) ** 2)
    np.testing.assert_allclose(factors.T @ factors / 300, np.eye(2), atol=1e-8)


def test_all_folds_at_once_predict_what_each_does_by_its_formula():
    rng = np.random.default_rng(1)
    points, x = rng.normal(size=(7, 5)), rng.normal(size=(4, 5))
    columns = np.array([0, 1, 0, -1, 1])
    shared = {"landmarks": points, "columns": columns, "typical": np.array([3.0, 2.0])}
    wide = (2.0, 1.0, 0.0, 0.1)
    states = [
        {
            "weights": rng.normal(size=(7, rank)),
            "linear": rng.normal(size=(5, rank)),
            "bias": rng.normal(size=rank),
            "shape": np.array(shape),
            "loadings": rng.normal(size=(6, rank)),
            "mean": rng.normal(size=6),
        }
        for shape, rank in ((wide, 3), ((0.7, 0.5, 1.5, 0.1), 2), (wide, 1))
    ]
    for state, kinds in ((states[1], 2), (states[2], 4)):
        state["kinds.weights"] = rng.normal(size=(5, kinds))
        state["kinds.bias"] = rng.normal(size=kinds)
        state["kinds.means"] = rng.normal(size=(kinds, state["bias"].size))
    square = (x[:, None] - points) ** 2
    form = square[:, :, columns == 0].sum(axis=2) / 3.0
    rest = square[:, :, columns == 1].sum(axis=2) / 2.0
    factors = []
    for s in states:
        width, first, second, _ = s["shape"]
        kernel = first * np.exp(-form / width) + second * np.exp(-rest / width)
        found = kernel @ s["weights"] + x @ s["linear"] + s["bias"]
        if "kinds.means" in s:
            raised = np.exp(x @ s["kinds.weights"] + s["kinds.bias"])
            found += raised / raised.sum(axis=1, keepdims=True) @ s["kinds.means"]
        factors.append(found)
    scorer = LowRankScorer()
    for found, expected in zip(scorer.factors(shared, states, x), factors, strict=True):
        np.testing.assert_allclose(found, expected)
    expected = [s["mean"] + f @ s["loadings"].T for s, f in zip(states, factors, strict=True)]
    np.testing.assert_allclose(scorer.predict_all(shared, states, x), expected)
    np.testing.assert_allclose(scorer.predict(shared, states[1], x), expected[1])


def test_a_model_run_on_the_hard_prompts_alone_does_not_pass_for_a_weak_one():
    rng = np.random.default_rng(0)
    hard = np.repeat([0.0, 1.0], 300)
    strength = np.linspace(0, 0.25, 20)
    y = (rng.random((600, 20)) < 0.7 - 0.6 * hard[:, None] + strength).astype(float)
    y[hard == 0, 19] = np.nan
    mean, _, _ = factorise(y, 2, rng)
    np.testing.assert_allclose(mean[:19], (0.4 + strength)[:19], atol=0.08)
    # Its own scores have a mean of 0.35, a weak model's; over all prompts it would be 0.65.
    assert mean[19] > mean[9]


def test_two_models_keep_both_ranks():
    y = np.array([[0.5, -0.5], [0.2, 0.4], [-0.7, 0.1]])
    mean, factors, loadings = factorise(y, 1, np.random.default_rng(0))
    np.testing.assert_allclose(mean + factors @ loadings.T, y, atol=1e-12)


def test_preferences_are_the_unequal_pairs():
    y = np.array([[1.0, 0.0, np.nan], [1.0, 1.0, 0.0]])
    told = preferences_of(y, np.random.default_rng(0))
    found = set(zip(told.row.tolist(), told.winner.tolist(), told.loser.tolist(), strict=True))
    assert found == {(0, 0, 1), (1, 0, 2), (1, 1, 2)}


def test_where_few_models_were_run_on_each_prompt_their_pairs_are_all_used():
    rng = np.random.default_rng(0)
    y = np.full((50, 40), np.nan)
    for row in y:
        row[rng.choice(40, 2, replace=False)] = 1.0, 0.0
    told = preferences_of(y, rng)
    assert sorted(told.row.tolist()) == list(range(50))
    assert (y[told.row, told.winner] == 1).all() and (y[told.row, told.loser] == 0).all()


def test_the_preference_loss_has_the_gradient_it_says():
    rng = np.random.default_rng(0)
    told = preferences_of((rng.random((6, 4)) < 0.5).astype(float), rng)
    strength = rng.normal(size=(6, 4))
    value, gradient = loss_of(strength, told)
    step = np.zeros_like(strength)
    step[2, 1] = 1e-6
    assert abs((loss_of(strength + step, told)[0] - value) / 1e-6 - gradient[2, 1]) < 1e-4


def _lead(scorer, x, gap, *queries):
    """Predicted gap between two models for each query."""
    rng = np.random.default_rng(1)
    y = (rng.random((len(x), 2)) < 0.5 + np.outer(gap, [-0.5, 0.5])).astype(float)
    table = Table(x, y, np.array([""] * len(x)), np.arange(len(x)))
    shared = scorer.prepare(x, rng)
    found = [scorer.predict(shared, scorer.fit(shared, table, rng), q) for q in queries]
    return [p[:, 1] - p[:, 0] for p in found]


@pytest.mark.slow
def test_form_is_not_drowned_by_many_words():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(900, len(NAMES) + 60))
    x[:, len(NAMES) :] *= 2
    form = [NAMES.index("digits"), NAMES.index("choices")]
    x[:, :25][:, [i for i in range(25) if i not in form]] = 0
    gap = 0.9 * np.tanh(3 * x[:, form[0]] * x[:, form[1]])
    train, test = slice(0, 600), slice(600, 900)
    (mixed,) = _lead(LowRankScorer(), x[train], gap[train], x[test])
    (apart,) = _lead(LowRankScorer(layout="hand"), x[train], gap[train], x[test])
    assert np.corrcoef(mixed, gap[test])[0, 1] < 0.3
    assert np.corrcoef(apart, gap[test])[0, 1] > 0.6


@pytest.mark.slow
def test_for_unseen_kinds_words_are_ignored_and_length_counts_far_from_all_that_is_known():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, len(NAMES) + 5))
    length = NAMES.index("log_bytes")
    other_words, far, longer = x[:50].copy(), x[:50].copy(), x[:50].copy()
    other_words[:, len(NAMES) :] += 3
    far[:, NAMES.index("digits")] = 50
    longer[:] = far
    longer[:, length] += 1
    gap = 0.5 * np.tanh(x[:, length]) + 0.3 * np.tanh(x[:, len(NAMES)])
    scorer = LowRankScorer(layout="hand, unseen")
    plain, words, short, long = _lead(scorer, x, gap, x[:50], other_words, far, longer)
    np.testing.assert_allclose(plain, words)
    assert (long > short).all()


@pytest.mark.slow
def test_for_unseen_kinds_length_counts_no_more_than_it_tells():
    rng = np.random.default_rng(0)
    x = np.zeros((600, len(NAMES)))
    length, digits = NAMES.index("log_bytes"), NAMES.index("digits")
    x[:, [length, digits]] = rng.normal(size=(600, 2))
    gap = 0.9 * np.tanh(2 * x[:, digits])
    (lead,) = _lead(LowRankScorer(layout="hand, unseen"), x, gap, x)
    assert np.corrcoef(lead, gap)[0, 1] > 0.9
