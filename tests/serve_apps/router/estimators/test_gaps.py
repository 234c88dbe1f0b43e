"""Estimated gaps between models count for as much as they are signal, and means stay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_apps.router.estimators.calibration import Calibration
from serve_apps.router.estimators.gaps import reliability, shrunk

PROMPTS = 4000
MEANS = np.array([0.7, 0.66, 0.4])


def told(signal: float, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Estimates and scores of three models.

    Of what is told apart between them, ``signal`` (standard deviation) is true and ``noise`` not.
    """
    rng = np.random.default_rng(seed)
    hard = 0.05 * rng.standard_normal((PROMPTS, 1))
    truth = MEANS + hard + signal * rng.standard_normal((PROMPTS, 3))
    scores = (rng.random(truth.shape) < truth).astype(float)
    return truth + noise * rng.standard_normal(truth.shape), scores


def drawn_in(estimates: np.ndarray, scores: np.ndarray) -> np.ndarray:
    plain = Calibration(np.ones(3), np.zeros(3), straight=np.array(True))
    return plain.shrinking(estimates, scores)(estimates)


def gap(found: np.ndarray) -> np.ndarray:
    return np.asarray(found[:, 0] - found[:, 1])


def test_reliability_is_the_part_of_the_variance_that_is_signal() -> None:
    assert reliability(*told(signal=0.0, noise=0.05)) < 0.25
    assert reliability(*told(signal=0.1, noise=0.0)) > 0.85
    half = [reliability(*told(signal=0.06, noise=0.06, seed=k)) for k in range(4)]
    assert np.mean(half) == pytest.approx(0.5, abs=0.1)


def test_noise_goes_to_the_mean_gap_and_signal_stays() -> None:
    noisy, scores = told(signal=0.0, noise=0.05)
    found = drawn_in(noisy, scores)
    assert gap(found).std() < 0.3 * gap(noisy).std()
    assert gap(found).mean() == pytest.approx(0.04, abs=0.005)
    np.testing.assert_allclose(found.sum(axis=1), noisy.sum(axis=1))
    sound, scores = told(signal=0.08, noise=0.0)
    assert gap(drawn_in(sound, scores)).std() > 0.8 * gap(sound).std()


def test_what_is_shrunk_is_nearer_to_what_comes_true_on_other_prompts() -> None:
    before, scores = told(signal=0.02, noise=0.06)
    fresh, truth = told(signal=0.02, noise=0.06, seed=1)
    after = shrunk(fresh, before.mean(axis=0), reliability(before, scores), 0.005)
    assert ((gap(after) - gap(truth)) ** 2).mean() < ((gap(fresh) - gap(truth)) ** 2).mean()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0.0, 0.1), st.floats(0.001, 0.1))
def test_no_two_prompts_change_places_between_any_two_models(
    seed: int, signal: float, noise: float
) -> None:
    estimates, scores = told(signal, noise, seed)
    estimates = np.clip(estimates, 0.05, 0.95)
    found = drawn_in(estimates, scores)
    for a, b in ((0, 1), (1, 2), (0, 2)):
        order = np.argsort(estimates[:, a] - estimates[:, b], kind="stable")
        assert (np.diff((found[:, a] - found[:, b])[order]) > -1e-9).all()


def test_models_that_all_do_well_are_not_made_to_tie() -> None:
    found = shrunk(np.full((1, 3), 0.995), MEANS, 0.5, 0.005)
    assert found[0, 0] > found[0, 1] > found[0, 2]
    assert found.max() == pytest.approx(0.995)


def test_scores_that_are_missing_are_left_out() -> None:
    estimates, scores = told(signal=0.06, noise=0.06)
    whole = reliability(estimates, scores)
    scores[::2, 2] = scores[1::3, 0] = np.nan
    assert reliability(estimates, scores) == pytest.approx(whole, abs=0.15)


@pytest.mark.parametrize("models", [1, 3])
def test_where_nothing_is_told_apart_nothing_is_shrunk(models: int) -> None:
    same = np.tile(np.linspace(0.2, 0.8, 50)[:, None], (1, models))
    assert reliability(same, np.ones_like(same)) == 1.0


def test_a_calibration_of_before_shrinks_nothing_and_any_comes_back_from_its_arrays() -> None:
    estimates, scores = told(signal=0.02, noise=0.06)
    plain = Calibration.fit(estimates, scores, straight=True)
    assert plain.arrays().keys() == {"slope", "shift", "straight"}
    found = plain.shrinking(plain(estimates), scores)
    again = Calibration(**found.arrays())
    assert (again(estimates) == found(estimates)).all()
    assert (replace(found, trust=None)(estimates) == plain(estimates)).all()
    assert (found(estimates[:1]) == found(estimates)[:1]).all()


def test_one_more_model_changes_nothing_for_the_others() -> None:
    estimates, scores = told(signal=0.02, noise=0.06)
    found = Calibration.fit(estimates, scores, straight=True)
    found = found.shrinking(found(estimates), scores)
    four = np.column_stack([estimates, estimates[:, 0]])
    np.testing.assert_array_equal(found.wider()(four)[:, :3], found(estimates))
