"""The factorisation finds planted structure through noise and gaps."""

import numpy as np

from serve_apps.router.estimators.low_rank import factorise
from serve_apps.router.estimators.preferences import loss_of, preferences_of


def test_factors_recover_what_noise_and_gaps_hide():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(300, 2)) @ rng.normal(size=(2, 20)) * 0.3
    seen = truth + rng.normal(0, 0.4, truth.shape)
    seen[rng.random(seen.shape) < 0.3] = np.nan
    factors, loadings = factorise(seen, 2, rng)
    error = ((factors @ loadings.T - truth) ** 2).mean()
    assert error < 0.25 * np.nanmean((seen - truth) ** 2)
    np.testing.assert_allclose(factors.T @ factors / 300, np.eye(2), atol=1e-8)


def test_two_models_keep_both_ranks():
    y = np.array([[0.5, -0.5], [0.2, 0.4], [-0.7, 0.1]])
    factors, loadings = factorise(y, 1, np.random.default_rng(0))
    np.testing.assert_allclose(factors @ loadings.T, y, atol=1e-12)


def test_preferences_are_the_unequal_pairs():
    y = np.array([[1.0, 0.0, np.nan], [1.0, 1.0, 0.0]])
    told = preferences_of(y, np.random.default_rng(0))
    found = set(zip(told.row.tolist(), told.winner.tolist(), told.loser.tolist(), strict=True))
    assert found == {(0, 0, 1), (1, 0, 2), (1, 1, 2)}


def test_the_preference_loss_has_the_gradient_it_says():
    rng = np.random.default_rng(0)
    told = preferences_of((rng.random((6, 4)) < 0.5).astype(float), rng)
    strength = rng.normal(size=(6, 4))
    value, gradient = loss_of(strength, told)
    step = np.zeros_like(strength)
    step[2, 1] = 1e-6
    assert abs((loss_of(strength + step, told)[0] - value) / 1e-6 - gradient[2, 1]) < 1e-4
