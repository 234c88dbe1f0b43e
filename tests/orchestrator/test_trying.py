"""A plan holds only where the trace, every seed, and by their spread an unseen one keep the SLO."""

import numpy as np
import pytest

from orchestrator.trying import Fared, Trial, try_plan
from tests import builders, plan_builders
from tests.profiler.traces_for_tests import a_trace


def fared(*shares, by_group=None, attainment=0.95):
    return Fared("auto", builders.slo(attainment=attainment), shares, by_group or {})


def trial(*found, complete=True):
    return Trial(plan_builders.plan(), found, complete)


def test_seeds_that_agree_above_the_share_hold():
    assert trial(fared(0.97, 0.97, 0.971, 0.969)).holds


@pytest.mark.parametrize(
    "shares",
    [
        (0.94, 0.99, 0.99, 0.99),  # the trace itself
        (0.99, 0.99, 0.94, 0.99),  # a seed
        (0.99, 0.955, 0.985, 0.97),  # all above, so far apart that another may well not be
    ],
)
def test_one_that_falls_short_or_may_does_not(shares):
    assert not trial(fared(*shares)).holds


def test_a_trial_broken_off_does_not_hold():
    assert not trial(fared(0.99), complete=False).holds


def test_an_unseen_draw_rarely_falls_below_what_is_expected_of_it():
    rng = np.random.default_rng(0)
    below = 0
    for _ in range(2000):
        draws = rng.normal(0.9, 0.01, 8)
        below += draws[7] < fared(1.0, *draws[:7]).expected_worst
    assert 0.015 < below / 2000 < 0.035


def test_the_groups_at_fault_are_those_that_miss_more_than_is_forgiven():
    short = fared(0.9, by_group={"good": 0.96, "bad": 0.8})
    found = trial(short, fared(0.99, by_group={"fine": 0.5})).short_groups()
    assert found == {"bad": pytest.approx(0.2 / 0.05)}


def test_a_trial_stops_early_where_it_may():
    plan = plan_builders.plan()
    crowd = a_trace(np.arange(300) * 1e-3, [900] * 300)
    assert len(try_plan(plan, [{"auto": crowd}] * 3, to_the_end=False).fared[0].shares) == 1
    assert len(try_plan(plan, [{"auto": crowd}] * 3).fared[0].shares) == 3
