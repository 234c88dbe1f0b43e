"""Calibration makes wrong confidence right, and needs data to leave the common way."""

import numpy as np

from serve_apps.router.estimators.calibration import Calibration
from serve_apps.router.estimators.lengths import UNKNOWN_TOKENS, Lengths
from serve_apps.router.evaluation.reliability import brier, ece


def overconfident(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 1, (count, 2))
    y = (rng.random(z.shape) < 1 / (1 + np.exp(-z))).astype(float)
    return 1 / (1 + np.exp(-3 * z - 1)), y


def test_calibration_lowers_brier_and_calibration_error():
    fitted = [Calibration.fit(*overconfident(800, 0), isotonic=i) for i in (False, True)]
    raw, y = overconfident(4000, 1)
    for calibration in fitted:
        p = calibration(raw)
        assert brier(p, y) < brier(raw, y) - 0.01
        assert ece(p, y) < ece(raw, y) / 2


def test_a_model_with_few_prompts_follows_the_others():
    raw, y = overconfident(2000, 0)
    y[5:, 1] = np.nan
    fitted = Calibration.fit(raw, y)
    assert abs(fitted.slope[1] - fitted.slope[0]) < 0.15


def test_calibration_never_turns_a_ranking_around():
    raw, y = overconfident(200, 0)
    assert (Calibration.fit(raw, 1 - y).slope > 0).all()


def test_lengths_are_right_in_the_mean_and_follow_the_features():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 3))
    tokens = np.exp(4 + x[:, :1] + rng.normal(0, 0.7, (500, 2)))
    tokens[:, 1] = np.nan
    expected = Lengths.fit(x, tokens)(x)
    assert abs(expected[:, 0].mean() / tokens[:, 0].mean() - 1) < 0.05
    assert np.corrcoef(np.log(expected[:, 0]), x[:, 0])[0, 1] > 0.95
    np.testing.assert_allclose(expected[:, 1], np.nanmean(tokens), rtol=0.01)


def test_without_any_length_a_guess_is_made():
    expected = Lengths.fit(np.zeros((5, 2)), np.full((5, 1), np.nan))(np.zeros((1, 2)))
    np.testing.assert_allclose(expected, UNKNOWN_TOKENS)
