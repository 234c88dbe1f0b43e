"""Calibration figures agree with cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from serve_apps.router.evaluation.reliability import brier, ece, reliability_bins


def test_bins_by_hand() -> None:
    found = reliability_bins(np.array([0.1, 0.2, 0.9, 1.0]), np.array([0.0, 1, 1, 1]), bins=2)
    assert found.predicted == pytest.approx([0.15, 0.95])
    assert found.observed == pytest.approx([0.5, 1.0])
    assert found.count.tolist() == [2, 2]


def test_ece_weighs_bins_by_their_prompts() -> None:
    predicted = np.array([0.1, 0.2, 0.9, 1.0])
    assert ece(predicted, np.array([0.0, 1, 1, 1]), bins=2) == pytest.approx(
        0.5 * 0.35 + 0.5 * 0.05
    )


def test_a_perfect_forecast_has_no_error_and_a_coin_a_quarter() -> None:
    score = np.array([0.0, 1.0, 1.0])
    assert ece(score, score) == brier(score, score) == 0.0
    assert brier(np.full(3, 0.5), score) == 0.25


def test_a_forecast_of_the_base_rate_is_calibrated() -> None:
    assert ece(np.full(4, 0.75), np.array([1.0, 1, 1, 0])) == 0.0
