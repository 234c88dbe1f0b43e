"""Loads follow measured rates where there are some; what cannot be served is excluded with why."""

import numpy as np
import pytest

from placement.problem import Option, exclude_unservable, load_matrix
from profiler.core import MeasuredRate
from tests.builders import problem, profile, request_class, slo


def measured(rate_rps):
    at = MeasuredRate(input_tokens=1024, output_tokens=256, rate_rps=rate_rps, slo=slo())
    return Option(profile().model_copy(update={"rates": (at,)}), "on_demand", 2.0)


def test_a_load_is_the_inverse_of_the_measured_rate():
    load = load_matrix([request_class()], [measured(2.5)], slo())
    assert load[0, 0] == pytest.approx(1 / 2.5)


def test_a_measured_zero_is_no_load_but_an_exclusion():
    found = problem(options=(measured(0.0),))
    assert np.isnan(found.load_s).all()
    (excluded,) = exclude_unservable(found).excluded
    assert "measured: at this size" in excluded.reason
