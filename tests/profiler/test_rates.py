"""Rates stand where they were measured, bound where the SLO differs, and end at their hull."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.capacity import Replica
from profiler.core import MeasuredRate, Profile
from profiler.documents import dump, parse
from profiler.rates import is_same, is_stricter, max_rates, why_infeasible
from tests.builders import profile, slo


def measured(points, under=None):
    under = under or slo()
    return profile().model_copy(
        update={
            "rates": tuple(
                MeasuredRate(input_tokens=i, output_tokens=o, rate_rps=r, slo=under)
                for i, o, r in points
            )
        }
    )


def rate(p, i, o, target=None):
    found = max_rates(p, np.array([float(i)]), np.array([float(o)]), target or slo())
    return float(found.rate_rps[0]), bool(found.measured[0])


def law(i, o, target=None):
    replica = Replica(profile(), np.array([float(i)]), np.array([float(o)]))
    return float(replica.max_rate_rps(target or slo())[0])


GRID = [(100, 50, 4.0), (1600, 50, 1.0), (100, 800, 1.0), (1600, 800, 0.25)]


def test_a_measured_size_has_its_measured_rate():
    assert rate(measured(GRID), 1600, 50) == (pytest.approx(1.0), True)


def test_between_sizes_the_logarithm_is_linear_in_both():
    assert rate(measured(GRID), 400, 50) == (pytest.approx(2.0), True)
    assert rate(measured(GRID), 400, 200) == (pytest.approx(1.0), True)


@pytest.mark.parametrize(("i", "o"), [(99, 50), (1601, 800), (400, 49), (400, 801)])
def test_outside_the_hull_the_law_speaks_and_says_so(i, o):
    assert rate(measured(GRID), i, o) == (law(i, o), False)


def test_one_row_of_sizes_serves_that_row_only():
    row = measured([(100, 50, 4.0), (1600, 50, 1.0)])
    assert rate(row, 400, 50) == (pytest.approx(2.0), True)
    assert rate(row, 400, 60) == (law(400, 60), False)
    assert rate(row, 90, 50) == (law(90, 50), False)


def test_one_size_serves_itself_only():
    alone = measured([(100, 50, 4.0)])
    assert rate(alone, 100, 50) == (pytest.approx(4.0), True)
    assert rate(alone, 101, 50) == (law(101, 50), False)


def test_a_zero_is_infeasible_and_so_is_all_next_to_it():
    p = measured([(100, 50, 4.0), (1600, 50, 0.0), (100, 800, 1.0), (1600, 800, 0.0)])
    assert rate(p, 1600, 50) == (0.0, True)
    assert rate(p, 400, 50) == (0.0, True)
    assert rate(p, 100, 200)[0] == pytest.approx(2.0)
    assert "measured" in why_infeasible(p, 1600, 50, slo())


def test_a_rate_under_a_stricter_slo_is_a_floor():
    strict = slo(ttft_s=1.0)
    high, low = law(400, 100) * 3, law(400, 100) / 3
    assert rate(measured([(400, 100, high)], strict), 400, 100) == (pytest.approx(high), True)
    assert rate(measured([(400, 100, low)], strict), 400, 100) == (law(400, 100), False)


def test_a_rate_under_a_looser_slo_is_a_ceiling():
    loose = slo(tpot_s=0.2, attainment=0.5)
    high, low = law(400, 100) * 3, law(400, 100) / 3
    assert rate(measured([(400, 100, high)], loose), 400, 100) == (law(400, 100), False)
    assert rate(measured([(400, 100, low)], loose), 400, 100) == (pytest.approx(low), True)
    assert rate(measured([(400, 100, 0.0)], loose), 400, 100)[0] == 0.0


def test_a_rate_under_limits_that_do_not_compare_says_nothing():
    crossed = slo(ttft_s=1.0, tpot_s=0.2)
    assert rate(measured([(400, 100, 0.1)], crossed), 400, 100) == (law(400, 100), False)


def test_the_same_slo_goes_before_bounds():
    p = measured([(400, 100, 5.0)])
    both = p.model_copy(update={"rates": measured([(400, 100, 9.0)], slo(1.0)).rates + p.rates})
    assert rate(both, 400, 100) == (pytest.approx(5.0), True)


@given(
    st.floats(0.1, 10), st.floats(0.01, 1), st.floats(0.5, 0.99), st.floats(0.1, 10),
    st.floats(0.01, 1), st.floats(0.5, 0.99),
)  # fmt: skip
def test_of_two_slos_at_most_one_is_stricter(a, b, c, d, e, f):
    one, other = slo(a, b, c), slo(d, e, f)
    assert is_stricter(one, other) + is_stricter(other, one) + is_same(one, other) <= 1


def test_rates_survive_a_file_and_old_files_read():
    assert parse(dump(measured(GRID)), Profile, "p.yaml") == measured(GRID)
    assert "rates" not in dump(profile()) or "rates: []" in dump(profile())
    assert profile().rates == ()
