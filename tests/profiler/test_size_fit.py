"""Fitted figures stand for the trace they came from, and the committed ones are what one gets."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest, spearmanr

from profiler.arrivals import BurstArrivals, GammaArrivals
from profiler.generator import generate
from profiler.size_fit import fit_arrivals, fit_quality, fit_sizes, fit_trace
from profiler.sizes import builtin_traces
from tests.profiler.traces_for_tests import a_trace, public_trace

PUBLIC = [("azure-chat", "azure2023_conv"), ("azure-code", "azure2023_code_first_half")]


def drawn_trace(inputs, outputs):
    return a_trace(np.arange(len(inputs)) / 10, inputs, outputs)


def test_a_fit_gives_back_lumps_and_their_dependence():
    rng = np.random.default_rng(0)
    inputs = rng.choice([50, 1000, 4000], 6000, p=[0.5, 0.3, 0.2])
    outputs = np.where(inputs == 1000, 400, rng.integers(1, 100, 6000))
    trace = drawn_trace(inputs, outputs)
    sizes = fit_sizes(trace)
    again = sizes.sample(50_000, np.random.default_rng(1))
    assert (again[0] == 1000).mean() == pytest.approx((inputs == 1000).mean(), abs=0.02)
    long = again[1] > 100
    assert (again[0][long] == 1000).mean() > 0.9
    quality = fit_quality(trace, sizes)
    assert quality.misplaced_share < 0.03
    assert max(quality.ks_input, quality.ks_output) < 0.011


def test_quality_tells_a_bad_fit_from_a_good_one():
    rng = np.random.default_rng(0)
    trace = drawn_trace(rng.integers(1, 500, 3000), rng.integers(1, 500, 3000))
    other = drawn_trace(rng.integers(1, 1000, 3000), rng.integers(1, 500, 3000))
    quality = fit_quality(other, fit_sizes(trace))
    assert quality.ks_input == pytest.approx(0.5, abs=0.03)
    assert quality.input_error["mean"] == pytest.approx(-0.5, abs=0.03)
    assert quality.misplaced_share > 0.4
    assert quality.ks_output < 0.05


def test_a_trace_of_one_size_can_be_fitted():
    sizes = fit_sizes(drawn_trace([77] * 5, [3] * 5))
    inputs, outputs = sizes.sample(1000, np.random.default_rng(0))
    assert (set(inputs.tolist()), set(outputs.tolist())) == ({77}, {3})


def test_mild_arrivals_are_fitted_as_gamma():
    trace = generate(GammaArrivals(rate_rps=5.0, cv=1.5), "azure-chat", 4000.0)
    fitted = fit_arrivals(trace)
    assert fitted.kind == "gamma"
    assert fitted.rate_rps == pytest.approx(5.0, rel=0.05)
    assert fitted.cv == pytest.approx(1.5, rel=0.05)


def test_bursty_arrivals_are_fitted_as_bursts_with_the_same_rate_and_cv():
    bursts = BurstArrivals(calm_rps=0, burst_rps=10, calm_s=300, burst_s=150)
    trace = generate(bursts, "azure-chat", 100_000.0)
    fitted = fit_arrivals(trace)
    assert fitted.kind == "bursts"
    assert fitted.rate_rps == pytest.approx(trace.mean_rate_rps)
    assert fitted.cv == pytest.approx(trace.arrival_cv)
    assert fitted.burst_s == pytest.approx(150, rel=0.25)


@pytest.mark.parametrize(("name", "file"), PUBLIC)
def test_the_committed_figures_are_what_one_gets_by_fitting(name, file):
    committed = builtin_traces()[name]
    again = fit_trace(
        public_trace(file),
        source=committed.source,
        license=committed.license,
        as_of=committed.as_of,
    )
    assert again.sizes == committed.sizes
    assert again.rows == committed.rows
    assert again.quality == committed.quality
    here, there = (x.arrivals.model_dump() for x in (again, committed))
    assert here.pop("process") == pytest.approx(there.pop("process"))
    assert here == pytest.approx(there)


@pytest.mark.parametrize(("name", "file"), PUBLIC)
def test_the_committed_figures_fit_the_public_traces(name, file):
    trace, committed = public_trace(file), builtin_traces()[name]
    inputs, outputs = committed.sizes.sample(200_000, np.random.default_rng(5))
    for real, drawn in ((trace.input_tokens, inputs), (trace.output_tokens, outputs)):
        assert kstest(real, drawn).statistic < 0.015
        assert drawn.mean() == pytest.approx(real.mean(), rel=0.02)
        for percent in (50, 90, 99):
            wanted = np.percentile(real, percent)
            assert np.percentile(drawn, percent) == pytest.approx(wanted, rel=0.03)
    real_rho = spearmanr(trace.input_tokens, trace.output_tokens).statistic
    assert spearmanr(inputs, outputs).statistic == pytest.approx(real_rho, abs=0.02)
    assert committed.quality.misplaced_share < 0.07


@pytest.mark.parametrize(("name", "cv"), [("azure-chat", 1.1), ("azure-code", 13.6)])
def test_the_committed_arrivals_have_the_cv_of_the_public_traces(name, cv):
    process = builtin_traces()[name].arrivals.process
    assert process.cv == pytest.approx(cv, abs=0.05)
    gaps = np.diff(generate(process, "azure-chat", 100_000.0).arrival_s)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.05)
