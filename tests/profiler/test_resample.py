"""Traffic drawn anew keeps each window's rate, the bursts and whole requests of the trace."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.arrivals import BurstArrivals, PoissonArrivals
from profiler.errors import InputError
from profiler.generator import generate
from profiler.resample import resample, window_edges_s
from tests.profiler.traces_for_tests import a_trace, public_trace

BURSTS = BurstArrivals(calm_rps=1, burst_rps=30, calm_s=30, burst_s=4)


@given(st.lists(st.floats(0, 900), min_size=1, max_size=60), st.integers(0, 99))
def test_no_request_is_lost_and_none_leaves_the_trace(times, seed):
    trace = a_trace([0.0, *sorted(times), 1000.0])
    drawn = resample(trace, seed)
    assert len(drawn) == len(trace)
    assert drawn.duration_s <= trace.duration_s


def test_the_rate_of_every_window_is_kept():
    trace = generate(BURSTS, "azure-chat", 3600, seed=3)
    edges_s = window_edges_s(trace)
    before, after = (np.histogram(t.arrival_s, edges_s)[0] for t in (trace, resample(trace, 1)))
    # time starts anew with the first request: that moves a few over an edge
    assert np.abs(after - before).sum() < 0.015 * len(trace)
    assert before.std() > 0.5 * before.mean()  # which would not be kept by chance


def test_a_silence_stays_where_it_is():
    trace = a_trace(np.concatenate([np.arange(0, 120, 0.5), np.arange(400, 600, 0.5)]))
    drawn = resample(trace, 2).arrival_s
    assert not ((drawn > 121) & (drawn < 350)).any()


@pytest.mark.parametrize("arrivals", [BURSTS, PoissonArrivals(rate_rps=5)], ids=lambda a: a.kind)
def test_burstiness_is_kept(arrivals):
    trace = generate(arrivals, "azure-chat", 3600, seed=4)
    found = [resample(trace, seed).arrival_cv for seed in range(5)]
    assert found == pytest.approx([trace.arrival_cv] * 5, rel=0.15)


def test_sizes_stay_together_and_keep_their_distribution():
    trace = generate(PoissonArrivals(rate_rps=5), "azure-chat", 3600, seed=5)
    drawn = resample(trace, 7)
    pairs = set(zip(trace.input_tokens.tolist(), trace.output_tokens.tolist(), strict=True))
    assert set(zip(drawn.input_tokens.tolist(), drawn.output_tokens.tolist(), strict=True)) <= pairs
    for name in ("input_tokens", "output_tokens"):
        want, got = (np.percentile(getattr(t, name), [25, 50, 75, 90]) for t in (trace, drawn))
        assert got == pytest.approx(want, rel=0.12)


def test_a_seed_repeats_and_another_differs():
    trace = generate(PoissonArrivals(rate_rps=5), "azure-chat", 600)
    one, again, other = (resample(trace, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.arrival_s, again.arrival_s)
    np.testing.assert_array_equal(one.input_tokens, again.input_tokens)
    assert not np.array_equal(one.input_tokens, other.input_tokens)


@pytest.mark.parametrize("factor", [0.3, 1.5, 3])
def test_a_rate_factor_scales_the_rate_and_keeps_the_duration(factor):
    trace = generate(PoissonArrivals(rate_rps=5), "azure-chat", 1200)
    drawn = resample(trace, 0, rate_factor=factor)
    assert len(drawn) == pytest.approx(factor * len(trace), rel=0.05)
    assert drawn.duration_s == pytest.approx(trace.duration_s, rel=0.01)


def test_prefix_hits_go_with_their_requests():
    trace = a_trace(np.arange(100.0), np.arange(1, 101), prefix_hit_tokens=np.arange(100))
    drawn = resample(trace, 0)
    np.testing.assert_array_equal(drawn.prefix_hit_tokens, drawn.input_tokens - 1)


def test_what_cannot_be_drawn_is_said():
    with pytest.raises(InputError, match="one moment"):
        resample(a_trace((0.0, 0.0)), 0)
    with pytest.raises(InputError, match="above 0"):
        resample(a_trace(), 0, rate_factor=0)


def test_a_very_bursty_public_trace_stays_so():
    trace = public_trace("azure2023_code_first_half")
    assert [resample(trace, s).arrival_cv for s in range(3)] == pytest.approx(
        [trace.arrival_cv] * 3, rel=0.3
    )
