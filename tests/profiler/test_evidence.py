"""Residuals are what the law misses by; intervals hold the true coefficients about as promised."""

import numpy as np
import pytest

from profiler.core import MeasuredPoint
from profiler.evidence import interval, residuals
from profiler.step_fit import Point, fit_step_time
from tests.builders import profile, step_time

TRUE = step_time()
WORK = [
    (1, 100, 0, 0), (1, 800, 0, 0), (2, 3000, 0, 0), (1, 0, 1, 300), (1, 0, 8, 2000),
    (1, 0, 8, 16000), (1, 0, 64, 9000), (1, 0, 64, 60000), (1, 50, 128, 30000), (1, 300, 32, 9000),
]  # fmt: skip


def points(noise, seed=0):
    rng = np.random.default_rng(seed)
    found = []
    for steps, prompts, sequences, kv in WORK:
        exact = TRUE(prompts, sequences, kv) + TRUE.base_s * (steps - 1)
        found.append(
            Point("decode", exact * rng.normal(1, noise), steps, prompts, sequences, kv)
        )  # fmt: skip
    return found


def test_a_residual_is_predicted_over_measured_minus_one():
    point = MeasuredPoint(kind="decode", time_s=0.02, sequences=10, kv_tokens=1000)
    (found,) = residuals(profile().model_copy(update={"points": (point,)}))
    predicted = profile().step_time(0, 10, 1000)
    assert found.predicted_s == pytest.approx(predicted)
    assert found.error == pytest.approx(predicted / 0.02 - 1)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    inside = []
    for seed in range(60):
        drawn = points(0.03, seed)
        ends = interval(drawn, fit_step_time(drawn))
        assert ends is not None
        low, high = ends
        inside += [getattr(low, n) <= v <= getattr(high, n) for n, v in TRUE.model_dump().items()]
    assert 0.85 <= np.mean(inside) <= 1.0


def test_more_noise_widens_them():
    def width(noise):
        drawn = points(noise)
        low, high = interval(drawn, fit_step_time(drawn))
        return high.base_s - low.base_s

    assert width(0.05) > 3 * width(0.005)


def test_as_many_coefficients_as_points_tell_nothing():
    assert interval(points(0.01)[:4], TRUE) is None
