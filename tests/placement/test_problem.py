"""Loads follow measured rates where there are some; what cannot be served is excluded with why."""

from dataclasses import replace

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


def test_an_option_may_have_less_headroom_than_the_rest_but_not_more():
    asked = problem(headroom=0.8)
    first, second = (o.name for o in asked.options)
    tightened = replace(asked, headroom_of={first: 0.3, second: 0.95})
    assert tightened.usable.tolist() == [0.3, 0.8]
    assert tightened.only("A10G").usable.tolist() == [0.8]
