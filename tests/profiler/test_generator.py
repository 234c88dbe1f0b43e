"""Generated traces have the rate, burstiness and sizes asked for, and repeat with their seed."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError
from scipy import stats

from profiler import documents
from profiler.arrivals import (
    BurstArrivals,
    DiurnalArrivals,
    GammaArrivals,
    PoissonArrivals,
    Spike,
    SpikeArrivals,
)
from profiler.errors import InputError, UnknownNameError
from profiler.generator import Arrivals, SizeDistribution, Sizes, builtin_sizes, generate
from profiler.sizes import FixedTokens
from profiler.traces import read_trace, write_trace

FIXED = SizeDistribution(input_tokens=FixedTokens(tokens=100), output_tokens=FixedTokens(tokens=10))
BURSTS = BurstArrivals(calm_rps=2.0, burst_rps=40.0, calm_s=20.0, burst_s=5.0)
DIURNAL = DiurnalArrivals(rate_rps=2.0, amplitude=0.8, period_s=3600.0, peak_s=900.0)
SPIKES = SpikeArrivals(
    rate_rps=5.0,
    spikes=(Spike(at_s=300, length_s=60, factor=10), Spike(at_s=600, length_s=100, factor=0)),
)
EVERY_KIND = [
    PoissonArrivals(rate_rps=5.0),
    GammaArrivals(rate_rps=5.0, cv=3.0),
    BURSTS,
    SPIKES,
    DIURNAL,
]
MOSTLY_BURST = BurstArrivals(calm_rps=0.0, burst_rps=10.0, calm_s=10.0, burst_s=990.0)


def times(arrivals, duration_s, seed=0):
    return generate(arrivals, FIXED, duration_s, seed).arrival_s


def count(arrival_s, start, end):
    return int(((arrival_s >= start) & (arrival_s < end)).sum())


def within(observed, expected, sigmas=4.0):
    """Whether a Poisson count is within so many standard deviations of its mean."""
    return abs(observed - expected) <= sigmas * math.sqrt(expected)


@pytest.mark.parametrize("arrivals", EVERY_KIND, ids=lambda a: a.kind)
def test_the_same_seed_gives_the_same_trace_and_another_seed_another(arrivals):
    first, again = (generate(arrivals, "azure-chat", 900.0, seed=7) for _ in range(2))
    other = generate(arrivals, "azure-chat", 900.0, seed=8)
    for column in ("arrival_s", "input_tokens", "output_tokens"):
        assert np.array_equal(getattr(first, column), getattr(again, column))
    assert not np.array_equal(first.arrival_s, other.arrival_s)
    given = generate(arrivals, "azure-chat", 900.0, np.random.default_rng(7))
    assert np.array_equal(given.arrival_s, first.arrival_s)
    assert first.arrival_s[0] == 0
    assert first.duration_s <= 900
    assert arrivals.kind in first.source
    assert "azure-chat" in first.source


@pytest.mark.parametrize("arrivals", [*EVERY_KIND, MOSTLY_BURST], ids=lambda a: a.kind)
def test_the_number_of_requests_is_the_number_expected(arrivals):
    duration_s, seeds = 5400.0, 40
    expected = arrivals.expected_requests(duration_s)
    drawn = [len(times(arrivals, duration_s, seed)) - 1 for seed in range(seeds)]
    error = np.std(drawn) / math.sqrt(seeds)
    assert abs(np.mean(drawn) - expected) < 4 * error + 0.003 * expected


def test_poisson_gaps_are_exponential():
    gaps = np.diff(times(PoissonArrivals(rate_rps=20.0), 2000.0))
    assert stats.kstest(gaps, stats.expon(scale=0.05).cdf).pvalue > 0.01


@pytest.mark.parametrize("cv", [0.25, 1.0, 2.0, 4.0])
def test_gamma_gaps_have_the_cv_and_shape_asked_for(cv):
    gaps = np.diff(times(GammaArrivals(rate_rps=10.0, cv=cv), 5000.0))
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.06)
    assert 1 / gaps.mean() == pytest.approx(10.0, rel=4 * cv / math.sqrt(len(gaps)))
    if cv <= 1:  # above, rounding to microseconds shows in the smallest gaps
        fitted = stats.gamma(cv**-2, scale=cv**2 / 10)
        assert stats.kstest(gaps, fitted.cdf).pvalue > 0.01


def test_bursts_alternate_between_two_rates():
    arrival_s = times(BURSTS, 50_000.0, seed=2)
    gaps = np.diff(arrival_s)
    assert BURSTS.rate_rps == pytest.approx(9.6)
    assert len(arrival_s) / 50_000 == pytest.approx(9.6, rel=0.06)
    assert gaps.std() / gaps.mean() == pytest.approx(BURSTS.cv, rel=0.06)
    per_second = np.bincount(arrival_s.astype(int), minlength=50_000)
    assert (per_second > 20).mean() == pytest.approx(0.2, abs=0.03)
    assert np.median(per_second) == 2


def test_bursts_with_equal_rates_are_poisson():
    even = BurstArrivals(calm_rps=10, burst_rps=10, calm_s=1, burst_s=1)
    assert even.cv == 1
    gaps = np.diff(times(even, 2000.0))
    assert stats.kstest(gaps, stats.expon(scale=0.1).cdf).pvalue > 0.01


def test_spikes_are_where_they_were_put():
    arrival_s = times(SPIKES, 1000.0)
    assert within(count(arrival_s, 1, 300), 5 * 299)
    assert within(count(arrival_s, 300, 360), 50 * 60)
    assert within(count(arrival_s, 360, 600), 5 * 240)
    assert count(arrival_s, 600, 700) == 0
    assert within(count(arrival_s, 700, 1000), 5 * 300)


def test_spikes_that_overlap_multiply_and_those_past_the_end_are_cut():
    arrivals = SpikeArrivals(
        rate_rps=1.0,
        spikes=(
            Spike(at_s=100, length_s=200, factor=5),
            Spike(at_s=200, length_s=1e6, factor=4),
            Spike(at_s=9e5, length_s=10, factor=1000),
        ),
    )
    assert arrivals.expected_requests(400) == pytest.approx(100 + 500 + 2000 + 400)
    arrival_s = times(arrivals, 400.0)
    assert within(count(arrival_s, 200, 300), 2000)
    assert within(count(arrival_s, 300, 400), 400)


def test_a_day_has_its_peak_and_trough_where_asked():
    arrival_s = times(DIURNAL, 36_000.0)
    phase = arrival_s[1:] % 3600
    counts = np.bincount((phase // 300).astype(int), minlength=12)
    edges = np.arange(13) * 300.0
    shape = np.diff(edges + 0.8 * 3600 / (2 * np.pi) * np.sin(2 * np.pi * (edges - 900) / 3600))
    assert stats.chisquare(counts, shape / shape.sum() * counts.sum()).pvalue > 0.01
    assert counts.argmax() in (2, 3)
    assert counts.argmin() in (8, 9)


def test_sizes_follow_the_distribution_and_its_dependence():
    chat = builtin_sizes("azure-chat")
    trace = generate(PoissonArrivals(rate_rps=100.0), "azure-chat", 1000.0)
    for tokens, table in (
        (trace.input_tokens, chat.input_tokens),
        (trace.output_tokens, chat.output_tokens),
    ):
        for p in (0.1, 0.5, 0.9, 0.99):
            share = (tokens <= math.ceil(np.interp(p, table.probabilities, table.tokens))).mean()
            assert share >= p - 0.005
        assert tokens.min() > table.tokens[0]
        assert tokens.max() <= table.tokens[-1]
    ranks = [stats.rankdata(x) / len(x) for x in (trace.input_tokens, trace.output_tokens)]
    band = (ranks[0] > 0.5) & (ranks[0] < 0.7)  # prompts around 1,100 tokens draw long answers
    assert trace.output_tokens[band].mean() > 1.5 * trace.output_tokens[~band].mean()


def test_a_generated_trace_reads_back_as_it_was(tmp_path):
    trace = generate(BURSTS, "azure-code", 300.0)
    write_trace(trace, tmp_path / "t.csv.gz")
    back = read_trace(tmp_path / "t.csv.gz")
    assert np.array_equal(back.arrival_s, trace.arrival_s)
    assert np.array_equal(back.output_tokens, trace.output_tokens)


@pytest.mark.parametrize("duration_s", [0.0, -1.0, float("nan"), float("inf")])
def test_a_duration_must_be_above_zero(duration_s):
    with pytest.raises(InputError, match="expected seconds above 0"):
        generate(PoissonArrivals(rate_rps=1.0), FIXED, duration_s)


def test_too_many_requests_are_refused_before_they_are_drawn():
    with pytest.raises(InputError, match=r"about 1e\+12 requests, expected at most 50,000,000"):
        generate(PoissonArrivals(rate_rps=1e6), FIXED, 1e6)


def test_an_unknown_size_name_is_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'azure-code'"):
        generate(PoissonArrivals(rate_rps=1.0), "azure-coda", 10.0)


class AService(BaseModel):
    arrivals: Arrivals
    sizes: Sizes = "azure-chat"


def service(text):
    return documents.parse(text, AService, "s.yaml")


@pytest.mark.parametrize("arrivals", EVERY_KIND, ids=lambda a: a.kind)
def test_settings_read_back_from_yaml(arrivals):
    text = documents.dump(AService(arrivals=arrivals, sizes=FIXED))
    assert service(text) == AService(arrivals=arrivals, sizes=FIXED)
    assert TypeAdapter(Arrivals).json_schema()["discriminator"]["propertyName"] == "kind"


def test_sizes_are_a_name_or_a_distribution():
    arrivals = "arrivals: {kind: gamma, rate_rps: 5, cv: 2}\n"
    assert service(arrivals + "sizes: azure-code").sizes == "azure-code"
    sizes = service(
        arrivals + "sizes:\n  input_tokens: {kind: lognormal, median: 500, p95: 2000}\n"
        "  output_tokens: {kind: fixed, tokens: 64}\n"
    ).sizes
    assert sizes.output_tokens.tokens == 64
    assert TypeAdapter(Sizes).json_schema()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("arrivals: {kind: gama, rate_rps: 5}", "s.yaml:1: arrivals"),
        ("arrivals: {kind: poisson, rate_rps: 0}", "found 0 (number), expected greater than 0"),
        ("arrivals: {kind: gamma, rate_rps: 5}", "missing key 'cv'"),
        ("arrivals: {kind: poisson, rate_rsp: 5}", "did you mean 'rate_rps'"),
        (
            "arrivals: {kind: bursts, calm_rps: 9, burst_rps: 5, calm_s: 1, burst_s: 1}",
            "expected calm_rps <= burst_rps",
        ),
        ("arrivals: {kind: spikes, rate_rps: 5, spikes: []}", "arrivals.spikes"),
        ("arrivals: {kind: diurnal, rate_rps: 5, amplitude: 2}", "arrivals.amplitude"),
        ("arrivals: {kind: poisson, rate_rps: 5}\nsizes: azure", "s.yaml:2: sizes"),
        (
            "arrivals: {kind: poisson, rate_rps: 5}\n"
            "sizes: {input_tokens: {kind: fixed, tokens: 1}}",
            "missing key 'output_tokens'",
        ),
    ],
)
def test_a_mistake_in_the_settings_is_named(text, message):
    with pytest.raises(InputError) as error:
        service(text)
    assert message in str(error.value)


def test_settings_are_frozen_and_refuse_unknown_keys():
    with pytest.raises(ValidationError):
        PoissonArrivals(rate_rps=1.0, rate=2.0)
    with pytest.raises(ValidationError):
        EVERY_KIND[0].rate_rps = 3.0


def test_importing_the_generator_does_not_import_scipy():
    code = "import sys, profiler.generator; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
