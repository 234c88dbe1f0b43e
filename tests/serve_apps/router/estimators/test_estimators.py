"""Estimators learn a planted structure, are calibrated, and come back from their arrays."""

import numpy as np
import pytest

from profiler.errors import UnknownNameError
from serve_apps.router.estimators.calibrated import CalibratedEstimator, folds_of
from serve_apps.router.estimators.registry import build, estimator_names, restore
from serve_apps.router.evaluation.reliability import brier
from serve_apps.router.features.text import TextFeatures
from tests.serve_apps.router.planted import planted

TRAIN, _ = planted(240)
TEST, TRUTH = planted(120, seed=1)
TEXT = TextFeatures(dimensions=6).fit(TRAIN.prompts)
X, X_TEST = TEXT.transform(TRAIN.prompts), TEXT.transform(TEST.prompts)
SETTINGS = {
    "gradient_boosting": {"trees": 15, "depth": 2},
    "ensemble": {"members": "knn,logistic"},
    "low_rank": {"landmarks": 32},
}
PREFERENCES_ALONE = ("bradley_terry", "matrix_factorisation")
"""Preferences tell who is better on a prompt, not how likely an answer is right."""
NO_TOPICS = ("similarity",)
"""The planted subjects say nothing."""


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in estimator_names() if n != "mlp"])
def test_predictions_are_nearer_the_truth_than_the_models_means(name):
    estimator = build(name, SETTINGS.get(name, {}), folds=3)
    fitted = estimator.fit(X, TRAIN, np.random.default_rng(0))
    found = fitted.estimate(X_TEST)
    assert found.models == TRAIN.models
    assert found.quality.shape == found.quality_sd.shape == found.output_tokens.shape
    assert ((found.quality > 0) & (found.quality < 1)).all()
    assert (found.quality_sd >= 0).all()
    mean = TRAIN.score.mean(axis=0)
    lead = found.quality[:, -1] - found.quality[:, 0]
    if name not in NO_TOPICS:
        assert np.corrcoef(lead, TRUTH[:, -1] - TRUTH[:, 0])[0, 1] > 0.3
    if name not in (*PREFERENCES_ALONE, *NO_TOPICS):
        assert brier(found.quality, TRUTH) < 0.8 * brier(np.tile(mean, (len(TRUTH), 1)), TRUTH)
    again = restore(name, fitted.arrays()).estimate(X_TEST)
    np.testing.assert_array_equal(again.quality, found.quality)
    np.testing.assert_array_equal(again.quality_sd, found.quality_sd)
    np.testing.assert_array_equal(again.output_tokens, found.output_tokens)


def test_an_estimator_says_how_far_off_it_is_on_prompts_it_had_not_seen():
    fitted = build("low_rank", SETTINGS["low_rank"]).fit(X, TRAIN, np.random.default_rng(0))
    assert isinstance(fitted, CalibratedEstimator)
    assert fitted.error is not None
    assert 0 <= fitted.error.ece < 0.1
    assert fitted.error.brier < fitted.error.brier_of_mean
    assert CalibratedEstimator.from_arrays(fitted.arrays()).error == fitted.error


def test_scores_may_be_missing():
    sparse, _ = planted(240, known=0.5)
    fitted = build("low_rank", SETTINGS["low_rank"]).fit(X, sparse, np.random.default_rng(0))
    quality = fitted.estimate(X_TEST).quality
    assert np.corrcoef(quality[:, 0], TRUTH[:, 0])[0, 1] > 0.6


def test_isotonic_calibration_stays_a_probability():
    fitted = build("knn", {}, isotonic=True).fit(X, TRAIN, np.random.default_rng(0))
    quality = fitted.estimate(X_TEST).quality
    assert ((quality >= 0) & (quality <= 1)).all()
    np.testing.assert_array_equal(restore("knn", fitted.arrays()).estimate(X_TEST).quality, quality)


def test_equal_prompts_and_subjects_are_never_parted():
    twice = TRAIN.rows(np.tile(np.arange(40), 2))
    fold = folds_of(twice, 5)
    np.testing.assert_array_equal(fold[:40], fold[40:])
    by_subject = folds_of(TRAIN, 4, "subject")
    for subject in set(TRAIN.subject):
        at = np.array([s == subject for s in TRAIN.subject])
        assert np.unique(by_subject[at]).size == 1


def test_an_unknown_estimator_gets_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'knn'"):
        build("knnn", {})
