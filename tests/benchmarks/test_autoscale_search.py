"""The least eagerness that reaches a target is found in few runs, whatever the curve."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.autoscale_run import Fared
from benchmarks.autoscale_search import Search

SPAN = (0.4, 16.0)


def fared(attainment: float, usd: float = 1.0) -> Fared:
    return Fared(usd, attainment, attainment, 0.1, None, 0.0)


def smooth(middle: float, steepness: float = 3.0) -> Callable[[float], Fared]:
    def evaluate(eagerness: float) -> Fared:
        x = steepness * (math.log(eagerness) - math.log(middle))
        return fared(1 / (1 + math.exp(-x)), 10 * eagerness**0.3)

    return evaluate


@given(middle=st.floats(0.45, 3.0), guess=st.floats(0.5, 15.0))
def test_a_smooth_curve_is_met_within_ten_runs_from_any_guess(middle: float, guess: float) -> None:
    search = Search(smooth(middle), SPAN, target=0.95, slack=0.006).run(guess)
    assert search.best is not None
    assert 0.95 <= search.best[1].attainment < 0.965
    assert search.usd_at_target == pytest.approx(
        smooth(middle)(middle * math.exp(math.log(19) / 3)).usd_per_hour, rel=0.02
    )


def test_a_jump_is_closed_in_on_and_never_interpolated_over() -> None:
    def jumps(eagerness: float) -> Fared:
        return fared(0.6, 5.0) if eagerness < 6.0 else fared(0.999, 20.0 + eagerness)

    search = Search(jumps, SPAN, target=0.95, slack=0.006).run(1.0)
    assert search.best is not None
    assert search.best[0] == pytest.approx(6.0, rel=0.08)
    assert search.usd_at_target == search.best[1].usd_per_hour


def test_a_rule_that_never_reaches_it_is_judged_at_its_best() -> None:
    search = Search(lambda e: fared(0.5 + e / 100), SPAN, target=0.95, slack=0.006).run(1.0)
    assert search.best is None
    assert search.usd_at_target is None
    assert search.nearest[0] == pytest.approx(16.0)


def test_who_misses_it_at_a_higher_cost_than_another_reached_it_at_is_given_up() -> None:
    search = Search(smooth(3.0), SPAN, target=0.95, slack=0.006, ceiling_usd=9.0).run(1.0)
    assert len(search.tried) == 1
