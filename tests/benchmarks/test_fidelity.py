"""What is replayed is the trace, only smaller; what is compared is every request of it."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.fidelity import parts_of, pooled, show, shrunk, simulated, thinned
from benchmarks.loops import CHECKS, Burst, Loop
from benchmarks.profiler import errors
from profiler.capacity import Replica
from profiler.traces import Trace
from tests.builders import profile, step_time

PROFILE = profile(law=step_time(base_s=0.05, per_prefill_token_s=2e-3, per_sequence_s=3e-3))


def trace(requests: int = 3000, over_s: float = 600.0) -> Trace:
    rng = np.random.default_rng(3)
    arrivals = np.sort(rng.uniform(0, over_s, requests))
    return Trace(
        arrival_s=arrivals - arrivals[0],
        input_tokens=rng.integers(1, 4000, requests),
        output_tokens=rng.integers(1, 600, requests),
        source="test",
    )


def test_lengths_shrink_to_no_less_than_a_token_and_arrivals_stay():
    small = shrunk(trace())
    assert small.input_tokens.min() == small.output_tokens.min() == 1
    assert small.input_tokens.mean() == pytest.approx(trace().input_tokens.mean() / 16, rel=0.01)
    assert np.array_equal(small.arrival_s, trace().arrival_s)


@pytest.mark.parametrize("load", [0.3, 0.6])
def test_the_requests_kept_fill_the_load_asked_for(load):
    kept = thinned(shrunk(trace()), PROFILE, load)
    work = Replica(PROFILE, kept.input_tokens, kept.output_tokens).work_s.mean()
    assert work * kept.mean_rate_rps == pytest.approx(load, rel=0.1)
    assert set(kept.input_tokens) <= set(shrunk(trace()).input_tokens)


def test_a_trace_that_is_too_thin_is_kept_whole():
    thin = shrunk(trace(requests=50))
    assert thinned(thin, PROFILE, 0.9) is thin


def test_parts_hold_every_request_once():
    parts = parts_of(trace(), 10)
    assert sum(map(len, parts)) == len(trace())
    assert all(part.arrival_s[0] == 0 and part.duration_s <= 150 for part in parts)


def test_an_error_is_relative_to_what_was_measured(capsys):
    parts = [simulated(PROFILE, p) for p in parts_of(thinned(shrunk(trace()), PROFILE, 0.4), 10)]
    told = pooled(parts)
    assert show(told, told)["ttft_p90_err"] == 0
    slow = type(told)(told.ttft_s * 2, told.tpot_s * 4)
    figures = show(told, slow)
    assert figures["ttft_p50_err"] == 0.5
    assert figures["tpot_p99_err"] == 0.75
    assert figures["attainment_measured"] < figures["attainment_simulated"]
    assert "TTFT p50" in capsys.readouterr().out


def test_a_lone_client_is_predicted_by_the_law_itself():
    loop = Loop(1, 40, 10, 3)
    found = loop.predict(PROFILE)
    (sizes,) = loop.sizes()
    assert found.ttft_s == pytest.approx(sorted(0.05 + 2e-3 * i for i, _ in sizes)[1])
    assert found.tpot_s == pytest.approx(0.053, rel=1e-3)


def test_points_differ_and_predictions_repeat():
    assert len(set(CHECKS)) == len(CHECKS)
    assert any(isinstance(check, Burst) for check in CHECKS)
    for check in CHECKS:
        assert check.predict(PROFILE) == check.predict(PROFILE)


def test_errors_are_medians_over_points():
    found = Loop(1, 40, 10, 3).predict(PROFILE)
    half = type(found)(found.tpot_s / 2, found.ttft_s, found.throughput)
    rows = [("a", half, found), ("b", half, found), ("c", found, found)]
    assert errors(rows) == {"tpot": 0.5, "ttft": 0.0, "throughput": 0.0}
