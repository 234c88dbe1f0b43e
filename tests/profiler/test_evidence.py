"""Residuals are what the law misses a profile's points by, requests' overhead included."""

import pytest

from profiler.core import MeasuredPoint
from profiler.evidence import as_noun, residuals
from profiler.step_fit import Point
from tests.builders import profile


def test_a_residual_is_predicted_over_measured_minus_one():
    point = MeasuredPoint(kind="decode", time_s=0.02, sequences=10, kv_tokens=1000)
    (found,) = residuals(profile().model_copy(update={"points": (point,)}))
    predicted = profile().step_time(0, 10, 1000)
    assert found.predicted_s == pytest.approx(predicted)
    assert found.error == pytest.approx(predicted / 0.02 - 1)


def test_the_overhead_of_requests_is_part_of_what_is_predicted():
    point = as_noun(Point("prefill", 0.05, prefill_tokens=100, overheads=1))
    slow = profile().model_copy(update={"points": (point,), "request_overhead_s": 0.02})
    fast = profile().model_copy(update={"points": (point,)})
    ((late,), (early,)) = residuals(slow), residuals(fast)
    assert late.predicted_s - early.predicted_s == pytest.approx(0.02)
