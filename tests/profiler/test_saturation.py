"""The search closes in on the highest rate inside the SLO, on paper and on a live engine."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.errors import ClusterError, EngineError, InputError
from profiler.saturation import PRECISION, Trial, bucket_of, predicted_rps, saturate, search
from tests.builders import profile, slo, step_time
from tests.fake_engine import FakeEngine


def find(limit: float, start: float) -> tuple[float, list[float]]:
    """Search where exactly the rates up to ``limit`` meet the SLO."""
    tries, tried = search(start), []
    rate = next(tries)
    while True:
        tried.append(rate)
        try:
            rate = tries.send(rate <= limit)
        except StopIteration as stop:
            return stop.value, tried


@given(st.floats(0.01, 1000), st.floats(1 / 3, 3))
def test_the_search_ends_beside_the_limit(limit, off):
    best, tried = find(limit, limit * off)
    assert limit / PRECISION / 1.001 <= best <= limit
    assert len(tried) <= 8


def test_a_good_prediction_takes_few_trials():
    assert len(find(1.0, 0.95)[1]) <= 4


def test_a_rate_that_never_holds_is_zero():
    best, tried = find(0.0, 4.0)
    assert best == 0.0 and min(tried) < 0.5


@pytest.mark.parametrize(
    ("size", "ranges"),
    [((64, 16), ((0, 64), (0, 16))), ((300, 100), ((256, 362), (64, 128)))],
)
def test_a_size_falls_into_the_planners_bucket(size, ranges):
    bucket = bucket_of(*size)
    assert (bucket.input_range, bucket.output_range) == ranges
    assert (bucket.input_tokens, bucket.output_tokens) == size


LAW = step_time(base_s=1e-3, per_prefill_token_s=0, per_sequence_s=0, per_kv_token_s=0)
PROFILE = profile(law=LAW, max_num_seqs=64)


async def trials(engine: FakeEngine, target, *, budget_s: float = 1.0):
    seen: list[Trial] = []
    async with engine.serve() as url:
        found = await saturate(
            url,
            "fake-model",
            PROFILE,
            target,
            bucket_of(8, 4),
            budget_s=budget_s,
            rng=np.random.default_rng(0),
            on_trial=seen.append,
        )
    return found, seen


async def test_a_live_engine_far_inside_the_slo_holds_what_is_predicted():
    generous = slo(ttft_s=30.0, tpot_s=10.0)
    found, seen = await trials(FakeEngine(step_time=LAW), generous)
    assert found.predicted_rps == predicted_rps(PROFILE, bucket_of(8, 4), generous) > 0
    assert seen[0].rate_rps == found.predicted_rps
    assert all(t.attainment == 1.0 for t in seen)
    assert found.rate_rps == max(t.rate_rps for t in seen)
    assert found.requests == sum(t.requests for t in seen)


async def test_an_engine_that_never_meets_it_has_rate_zero():
    found, seen = await trials(FakeEngine(step_time=LAW), slo(ttft_s=1e-5, tpot_s=10.0))
    assert found.rate_rps == 0.0
    assert {t.attainment for t in seen} == {0.0}


async def test_requests_that_were_shed_are_misses():
    shedding = FakeEngine(fault="status", status=429)
    found, _ = await trials(shedding, slo(ttft_s=30.0, tpot_s=10.0))
    assert found.rate_rps == 0.0


@pytest.mark.parametrize(
    ("engine", "error"),
    [
        (FakeEngine(fault="die", after_tokens=2), EngineError),
        (FakeEngine(fault="empty"), EngineError),
        (FakeEngine(fault="status", status=400), ClusterError),
    ],
    ids=["dies", "empty", "refuses"],
)
async def test_trouble_is_an_error_not_a_miss(engine, error):
    with pytest.raises(error, match=r"http://127"):
        await trials(engine, slo(ttft_s=30.0, tpot_s=10.0))


async def test_a_budget_too_small_for_one_trial_is_said():
    with pytest.raises(InputError, match=r"too few for 20 requests.*--budget-minutes"):
        await trials(FakeEngine(), slo(), budget_s=1e-3)
