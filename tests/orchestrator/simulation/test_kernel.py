"""The compiled engine gives the step-by-step engine's times, to a microsecond and better."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.simulation.run import Conditions, simulate
from orchestrator.simulator import simulate_group
from profiler.core import Profile
from tests import builders, plan_builders

UNBOUNDED = Conditions(queue_factor=float("inf"))


def profile(block_tokens: int = 16, **limits) -> Profile:
    return builders.profile(**limits).model_copy(update={"kv_block_tokens": block_tokens})


def trace(arrival_s, inputs, outputs, hits=None):
    return SimpleNamespace(
        arrival_s=np.asarray(arrival_s, dtype=float),
        input_tokens=np.asarray(inputs),
        output_tokens=np.asarray(outputs),
        prefix_hit_tokens=None if hits is None else np.asarray(hits),
    )


def fast(engine: Profile, replicas: int, load):
    group = plan_builders.group(replicas=replicas).model_copy(update={"profile": engine})
    return simulate(plan_builders.plan((group,), ()), load, conditions=UNBOUNDED)


def assert_same(engine: Profile, replicas: int, load) -> int:
    """Compare with the oracle; how many preemptions there were."""
    want = simulate_group(
        engine,
        replicas,
        load.arrival_s,
        load.input_tokens,
        load.output_tokens,
        prefix_hit_tokens=load.prefix_hit_tokens,
    )
    got = fast(engine, replicas, load)
    np.testing.assert_array_equal(got.rejected, want.rejected)
    np.testing.assert_array_equal(got.preemptions, want.preemptions)
    np.testing.assert_array_equal(got.replica[~got.rejected], want.replica[~want.rejected])
    np.testing.assert_allclose(got.first_token_s, want.first_token_s, rtol=0, atol=1e-8)
    np.testing.assert_allclose(got.finish_s, want.finish_s, rtol=0, atol=1e-8)
    return int(want.preemptions.sum())


@st.composite
def engines(draw):
    """Laws without round numbers, so that no step ends at the very moment of an arrival."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    zero = draw(st.sampled_from(["", "per_prefill_token_s", "per_sequence_s", "per_kv_token_s"]))
    law = {
        "base_s": rng.uniform(1e-3, 2e-2),
        "per_prefill_token_s": rng.uniform(0, 1e-3),
        "per_sequence_s": rng.uniform(0, 1e-3),
        "per_kv_token_s": rng.uniform(0, 1e-5),
        "batch_extra_s": tuple(rng.uniform(-5e-4, 5e-3, draw(st.sampled_from([0, 1, 5, 40])))),
    }
    return profile(
        block_tokens=draw(st.sampled_from([1, 3, 16, 128])),
        law=builders.step_time(**(law | ({zero: 0.0} if zero else {}))),
        kv_capacity_tokens=draw(st.integers(300, 3000)),
        max_model_len=draw(st.sampled_from([300, 1000])),
        max_num_seqs=draw(st.integers(1, 30)),
        max_num_batched_tokens=draw(st.integers(2, 300)),
    )


@st.composite
def loads(draw, max_size: int = 60):
    size = draw(st.integers(1, max_size))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    gaps = rng.exponential(draw(st.sampled_from([1e-3, 0.05, 0.5, 3.0])), size)
    together = rng.random(size) < draw(st.sampled_from([0.0, 0.3, 1.0]))
    inputs = rng.integers(1, draw(st.sampled_from([2, 40, 400])), size)
    outputs = rng.integers(1, draw(st.sampled_from([2, 30, 300])), size)
    hits = rng.integers(0, 400, size) * (rng.random(size) < 0.5)
    return trace(np.cumsum(np.where(together, 0.0, gaps)), inputs, outputs, hits)


@given(engines(), loads(), st.integers(1, 4))
@settings(max_examples=40)
def test_any_load_on_any_engine_is_answered_as_step_by_step(engine, load, replicas):
    assert_same(engine, replicas, load)


@pytest.mark.parametrize("block_tokens", [1, 16, 100])
@pytest.mark.parametrize("budget", [16, 64, 4096])
def test_so_it_is_when_memory_is_short_and_many_are_evicted(block_tokens, budget):
    rng = np.random.default_rng(block_tokens * budget)
    size = 120
    load = trace(
        np.cumsum(rng.exponential(0.02, size)),
        rng.integers(1, 120, size),
        rng.integers(1, 200, size),
        rng.integers(0, 60, size),
    )
    engine = profile(
        block_tokens, kv_capacity_tokens=1200, max_num_seqs=16, max_num_batched_tokens=budget
    )
    assert assert_same(engine, 1, load) > 20
    assert assert_same(engine, 2, load) > 20


def test_a_hundred_thousand_steps_do_not_add_up_to_an_error():
    rng = np.random.default_rng(5)
    load = trace(np.cumsum(rng.exponential(20.0, 70)), rng.integers(1, 500, 70), [1500] * 70)
    assert_same(profile(), 1, load)


def test_a_prompt_known_to_the_prefix_cache_is_ready_sooner_and_takes_as_much_memory():
    law = builders.step_time(per_prefill_token_s=1e-3)
    engine = profile(law=law, kv_capacity_tokens=160, max_num_batched_tokens=512)
    plain = fast(engine, 1, trace([0.0, 0.0], [100, 70], [5, 5]))
    known = fast(engine, 1, trace([0.0, 0.0], [100, 70], [5, 5], [64, 64]))
    assert plain.ttft_s[0] - known.ttft_s[0] == pytest.approx(0.064)
    assert known.first_token_s[1] > known.finish_s[0]


def test_a_prompt_known_as_a_whole_still_computes_its_last_token():
    law = builders.step_time(per_prefill_token_s=1e-3)
    found = fast(profile(law=law), 1, trace([0.0], [100], [1], [100]))
    assert found.ttft_s[0] == pytest.approx(law(1, 0, 0))
