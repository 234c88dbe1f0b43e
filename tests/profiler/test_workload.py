"""A trace becomes rates per size bucket that lose no request and no token."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from profiler.errors import InputError, UnknownNameError
from profiler.sizes import FixedTokens, LognormalTokens, SizeDistribution, UniformTokens
from profiler.workload import (
    DEFAULT_GRID,
    SizeGrid,
    window_rates_rps,
    workload_from_sizes,
    workload_from_trace,
)
from tests.profiler.traces_for_tests import a_trace, public_trace

GRID = SizeGrid(input_edges=(100, 200), output_edges=(10, 20))


def per_minute(counts):
    """A trace with that many requests in each minute, spread evenly, and one a minute later."""
    times = [60 * m + 60 * (i + 0.5) / n for m, n in enumerate(counts) for i in range(n)]
    return a_trace([0.0, *(t for t in times if t), 60.0 * len(counts)])


def within(span, tokens):
    return (tokens > span[0]) & (tokens <= span[1])


def cells(workload):
    return {r.bucket.key: r.rate_rps for r in workload.rates}


def test_requests_are_counted_into_ranges_open_below_and_closed_above():
    trace = a_trace((0.0, 1.0, 2.0, 3.0, 4.0), [100, 101, 200, 1, 100], [10, 10, 11, 20, 2])
    workload = workload_from_trace(trace, GRID, plan_for="mean")
    assert cells(workload) == pytest.approx(
        {
            "in<=100,out<=10": 0.4,
            "in<=100,out<=20": 0.2,
            "in<=200,out<=10": 0.2,
            "in<=200,out<=20": 0.2,
        }
    )
    first = workload.rates[0].bucket
    assert (first.input_range, first.output_range) == ((0, 100), (0, 10))
    assert (first.input_tokens, first.output_tokens) == (100, 6)
    assert (workload.mean_rate_rps, workload.planned_rate_rps) == (1.0, 1.0)
    assert workload.arrival_cv == 0
    assert workload.source == "a test"


def test_requests_beyond_the_grid_get_buckets_of_their_own():
    trace = a_trace((0.0, 1.0, 2.0), [150, 801, 800], [1, 21, 20])
    workload = workload_from_trace(trace, GRID)
    assert [r.bucket.key for r in workload.rates] == [
        "in<=200,out<=10",
        "in<=800,out<=20",
        "in<=1600,out<=40",
    ]
    assert workload.rates[2].bucket.input_range == (800, 1600)


sizes = st.integers(1, 400_000)
requests = st.tuples(st.floats(0, 1e5), sizes, sizes)


@given(st.lists(requests, min_size=2, max_size=60), st.sampled_from(["mean", "max"]))
@settings(max_examples=100, deadline=None)
def test_no_request_and_no_token_is_lost(drawn, plan_for):
    drawn = sorted(drawn)
    times = np.array([d[0] for d in drawn]) - drawn[0][0]
    if times[-1] < 1e-6:
        times[-1] = 1.0
    trace = a_trace(times, [d[1] for d in drawn], [d[2] for d in drawn])
    workload = workload_from_trace(trace, plan_for=plan_for)
    rates = [r.rate_rps for r in workload.rates]
    planned = workload.planned_rate_rps
    assert math.fsum(rates) == planned
    mean_tokens = trace.input_tokens.mean() + trace.output_tokens.mean()
    assert workload.tokens_per_s == pytest.approx(planned * mean_tokens, rel=1e-9)
    for rate in workload.rates:
        bucket = rate.bucket
        assert bucket.input_range[0] < bucket.input_tokens <= bucket.input_range[1]
        assert bucket.output_range[0] < bucket.output_tokens <= bucket.output_range[1]
        inside = within(bucket.input_range, trace.input_tokens)
        inside &= within(bucket.output_range, trace.output_tokens)
        assert rate.rate_rps == pytest.approx(planned * inside.mean())
    assert len({r.bucket.key for r in workload.rates}) == len(workload.rates)


@pytest.mark.parametrize(
    ("plan_for", "rate_rps"),
    [("p50", 10.5), ("p90", 18.1), ("p95", 19.05), ("p99", 19.81), ("max", 20.0)],
)
def test_the_planned_rate_is_a_quantile_over_minutes(plan_for, rate_rps):
    trace = per_minute([60 * k for k in range(1, 21)])
    workload = workload_from_trace(trace, plan_for=plan_for)
    # the request at time 0 adds one to the first minute, which no quantile here looks at
    assert workload.planned_rate_rps == pytest.approx(rate_rps)
    assert workload.mean_rate_rps == pytest.approx(10.5, rel=1e-3)


def test_a_last_minute_cut_short_does_not_look_like_a_lull():
    trace = per_minute([600] * 12)
    longer = a_trace([*trace.arrival_s, 60.0 * 12 + 1, 60.0 * 12 + 30])
    assert len(window_rates_rps(longer)) == 12
    assert workload_from_trace(longer, plan_for="p50").planned_rate_rps == pytest.approx(10)


def test_a_short_trace_is_cut_into_ten_windows():
    times = np.arange(0, 100.01, 0.5)
    rates = window_rates_rps(a_trace(times))
    assert rates.tolist() == pytest.approx([2.0] * 10)


def test_a_rate_of_zero_cannot_be_planned_for():
    trace = a_trace((0.0, 0.1, 0.2, 1000.0))
    with pytest.raises(InputError, match="the p50 request rate is 0"):
        workload_from_trace(trace, plan_for="p50")
    assert workload_from_trace(trace, plan_for="max").planned_rate_rps == pytest.approx(3 / 60)


def test_a_trace_of_one_moment_has_no_rate():
    with pytest.raises(InputError, match="arrive at one moment"):
        workload_from_trace(a_trace((0.0, 0.0)))


def test_a_trace_of_many_years_asks_for_its_unit():
    with pytest.raises(InputError, match="are its times in seconds"):
        workload_from_trace(a_trace((0.0, 1.0, 1e300)))


def test_an_unknown_rate_to_plan_for_is_refused():
    with pytest.raises(InputError, match="found 'p42', expected mean, p50"):
        workload_from_trace(a_trace(), plan_for="p42")


@pytest.mark.parametrize("edges", [(), (2, 1), (1, 1), (0, 1)])
def test_grid_edges_must_rise(edges):
    with pytest.raises(ValidationError):
        SizeGrid(input_edges=edges, output_edges=(1,))


def test_the_default_grid_covers_public_traces_in_few_buckets():
    assert DEFAULT_GRID.input_edges[-1] == 131_072
    assert DEFAULT_GRID.output_edges[-1] == 16_384
    assert DEFAULT_GRID.covering(131_072, 16_384) == DEFAULT_GRID
    assert len(workload_from_sizes(1.0, "azure-chat").rates) <= 120


def test_the_public_chat_trace_fills_at_most_120_buckets():
    workload = workload_from_trace(public_trace("azure2023_conv"))
    assert 50 <= len(workload.rates) <= 120
    assert workload.arrival_cv == pytest.approx(1.1, abs=0.05)
    assert workload.mean_rate_rps == pytest.approx(5.53, abs=0.01)
    assert workload.mean_rate_rps < workload.planned_rate_rps < 2 * workload.mean_rate_rps


def test_sizes_alone_give_the_same_workload_as_counting_a_great_trace():
    joint = SizeDistribution(
        input_tokens=UniformTokens(min=1, max=1000),
        output_tokens=LognormalTokens(median=100, p95=400, max=2000),
        copula=((1.8, 0.2), (0.2, 1.8)),
    )
    inputs, outputs = joint.sample(400_000, np.random.default_rng(3))
    drawn = a_trace(np.arange(400_000) / 100, inputs, outputs)
    counted = {r.bucket.key: r for r in workload_from_trace(drawn, plan_for="mean").rates}
    summed = {r.bucket.key: r for r in workload_from_sizes(100.0, joint).rates}
    for key, there in summed.items():
        if there.rate_rps > 0.5:
            here = counted[key]
            assert here.rate_rps == pytest.approx(there.rate_rps, rel=0.1)
            assert here.bucket.input_tokens == pytest.approx(there.bucket.input_tokens, rel=0.02)
            assert here.bucket.output_tokens == pytest.approx(there.bucket.output_tokens, rel=0.02)
    assert sum(r.rate_rps for r in counted.values() if r.bucket.key not in summed) < 0.01


def test_sizes_alone_conserve_tokens_and_rate():
    joint = SizeDistribution(
        input_tokens=UniformTokens(min=11, max=20), output_tokens=FixedTokens(tokens=300_000)
    )
    workload = workload_from_sizes(2.5, joint, mean_rate_rps=2.0, arrival_cv=3.0)
    assert math.fsum(r.rate_rps for r in workload.rates) == 2.5
    assert workload.tokens_per_s == pytest.approx(2.5 * (15.5 + 300_000), rel=1e-6)
    assert [r.bucket.key for r in workload.rates] == ["in<=64,out<=524288"]
    assert (workload.mean_rate_rps, workload.arrival_cv) == (2.0, 3.0)


def test_sizes_alone_are_the_same_each_time_and_say_what_they_are():
    assert workload_from_sizes(5, "azure-code") == workload_from_sizes(5, "azure-code")
    assert workload_from_sizes(5, "azure-code").source == "azure-code at 5 requests/s"


def test_a_bad_rate_or_name_is_refused():
    for rate in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="expected a number above 0"):
            workload_from_sizes(rate, "azure-chat")
    with pytest.raises(UnknownNameError, match="did you mean 'azure-chat'"):
        workload_from_sizes(1.0, "azure-chatt")
