"""The step-by-step simulator keeps the scheduler's limits and gives the law's own times."""

from __future__ import annotations

import datetime as dt
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.simulator import (
    Timings,
    attainment,
    percentile,
    simulate_group,
    simulate_replica,
    simulate_trace,
)
from profiler.core import EngineOptions, Profile, Provenance, ReplicaConfig, Slo, StepTime
from profiler.emulated.replica import Step
from profiler.errors import InputError

LAW = {
    "base_s": 0.01,
    "per_prefill_token_s": 1e-3,
    "per_sequence_s": 1e-3,
    "per_kv_token_s": 1e-5,
}


def profile(
    *,
    seqs: int = 8,
    budget: int = 64,
    kv_tokens: int = 1600,
    max_model_len: int = 1000,
    block_tokens: int = 16,
    **law: float,
) -> Profile:
    return Profile(
        config=ReplicaConfig(
            model="m",
            gpu="L4",
            engine=EngineOptions(max_num_seqs=seqs, max_num_batched_tokens=budget),
        ),
        step_time=StepTime(**{**LAW, **law}),
        kv_capacity_tokens=kv_tokens,
        max_model_len=max_model_len,
        kv_block_tokens=block_tokens,
        provenance=Provenance(kind="roofline", date=dt.date(2026, 1, 1)),
    )


@st.composite
def loads(draw, max_tokens: int = 120):
    """Arrivals, inputs and outputs; gaps of zero make bursts."""
    size = draw(st.integers(1, 25))
    gaps = draw(st.lists(st.sampled_from([0.0, 0.003, 0.05, 2.0]), min_size=size, max_size=size))
    tokens = st.lists(st.integers(1, max_tokens), min_size=size, max_size=size)
    return np.cumsum(gaps), draw(tokens), draw(tokens)


tight = st.builds(
    profile,
    seqs=st.integers(1, 8),
    budget=st.integers(8, 200),
    kv_tokens=st.integers(240, 1200),
)


@given(st.integers(1, 500), st.integers(1, 60), st.integers(16, 600), st.floats(0, 5))
@settings(deadline=None, max_examples=50)
def test_a_lone_request_has_the_closed_form(inputs, outputs, budget, arrival):
    found = simulate_replica(profile(budget=budget), [arrival], [inputs], [outputs])
    law = StepTime(**LAW)
    prefill_steps = -(-inputs // budget)
    ttft = prefill_steps * law.base_s + inputs * law.per_prefill_token_s
    assert found.ttft_s[0] == pytest.approx(ttft)
    # k decode steps of one sequence: k (a + c + d S) + d k (k - 1) / 2, S the first step's context
    k = outputs - 1
    decoding = k * law(0, 1, inputs + 1) + law.per_kv_token_s * k * (k - 1) / 2
    assert found.e2e_s[0] == pytest.approx(ttft + decoding)
    if k:
        assert found.tpot_s[0] == pytest.approx(decoding / k)
    else:
        assert np.isnan(found.tpot_s[0])


@settings(deadline=None, max_examples=50)
@given(loads(), tight, st.integers(1, 3))
def test_every_admitted_request_finishes_and_no_step_breaks_a_limit(load, limits, replicas):
    steps: list[Step] = []
    found = simulate_group(limits, replicas, *load, on_step=steps.append)
    arrivals, inputs, outputs = load
    for i in range(len(arrivals)):
        fits = -(-(inputs[i] + outputs[i]) // 16) <= limits.kv_capacity_tokens // 16
        assert found.rejected[i] == (not fits)
        assert np.isfinite(found.finish_s[i]) == fits
        assert (found.replica[i] >= 0) == fits
        if fits:
            assert arrivals[i] < found.first_token_s[i] <= found.finish_s[i]
    engine = limits.config.engine
    for step in steps:
        assert 0 < step.prefill_tokens + step.decodes <= engine.max_num_batched_tokens
        assert step.running <= engine.max_num_seqs
        assert 0 <= step.kv_blocks <= limits.kv_capacity_tokens // 16
        assert step.duration_s == pytest.approx(
            limits.step_time(step.prefill_tokens, step.decodes, step.kv_tokens)
        )
    for a, b in itertools.pairwise(steps):
        if replicas == 1:
            assert a.start_s + a.duration_s <= b.start_s + 1e-12


@settings(deadline=None, max_examples=50)
@given(loads(), tight)
def test_work_is_conserved(load, limits):
    """Without preemption each prompt token is prefilled once, each later token decoded once."""
    steps: list[Step] = []
    found = simulate_replica(limits, *load, on_step=steps.append)
    served = ~found.rejected
    prefilled = sum(s.prefill_tokens for s in steps)
    decoded = sum(s.decodes for s in steps)
    inputs = int(np.array(load[1])[served].sum())
    outputs = int((np.array(load[2]) - 1)[served].sum())
    if found.preemptions.sum() == 0:
        assert (prefilled, decoded) == (inputs, outputs)
    else:
        assert prefilled + decoded > inputs + outputs - found.preemptions.sum()


@settings(deadline=None, max_examples=50)
@given(loads(), st.integers(1, 8), st.integers(8, 200))
def test_equal_requests_get_first_tokens_in_order_of_arrival(load, seqs, budget):
    arrivals, inputs, outputs = load
    equal = [inputs[0]] * len(arrivals), [outputs[0]] * len(arrivals)
    roomy = profile(seqs=seqs, budget=budget, kv_tokens=100_000)
    found = simulate_replica(roomy, arrivals, *equal)
    assert (np.diff(found.first_token_s) >= 0).all()
    assert (np.diff(found.finish_s) >= 0).all()


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 500), st.integers(1, 60), st.sampled_from(sorted(LAW)), st.floats(0.0, 1.0))
def test_a_faster_law_never_delays_a_lone_request(inputs, outputs, coefficient, factor):
    slow = simulate_replica(profile(), [0.0], [inputs], [outputs])
    faster = profile(**{coefficient: LAW[coefficient] * factor})
    fast = simulate_replica(faster, [0.0], [inputs], [outputs])
    assert fast.first_token_s[0] <= slow.first_token_s[0]
    assert fast.finish_s[0] <= slow.finish_s[0]


def test_decodes_come_before_prompts_which_are_cut_to_the_budget():
    steps: list[Step] = []
    simulate_replica(profile(budget=64), [0.0, 0.03], [10, 200], [20, 1], on_step=steps.append)
    assert [(s.prefill_tokens, s.decodes) for s in steps[:6]] == [
        (10, 0), (0, 1), (63, 1), (63, 1), (63, 1), (11, 1),
    ]  # fmt: skip


def test_prompts_share_a_step_in_order_of_arrival():
    steps: list[Step] = []
    found = simulate_replica(
        profile(budget=64), [0.0] * 3, [40, 40, 40], [1, 1, 1], on_step=steps.append
    )
    assert [s.prefill_tokens for s in steps] == [64, 56]
    first = 0.01 + 0.064
    assert found.first_token_s == pytest.approx([first, first + 0.066, first + 0.066])


def test_a_request_that_arrives_during_a_step_waits_for_its_end():
    found = simulate_replica(profile(), [0.0, 0.001], [50, 1], [1, 1])
    assert found.first_token_s == pytest.approx([0.06, 0.06 + 0.011])


def test_a_request_spends_its_overhead_outside_the_engines_steps():
    free = profile()
    costly = free.model_copy(update={"request_overhead_s": 0.25})
    load = [0.0, 0.1], [20, 30], [5, 1]
    told, plain = simulate_replica(costly, *load), simulate_replica(free, *load)
    np.testing.assert_allclose(told.ttft_s, plain.ttft_s + 0.25)
    np.testing.assert_allclose(told.e2e_s, plain.e2e_s + 0.25)
    np.testing.assert_allclose(told.tpot_s, plain.tpot_s)


def test_full_memory_evicts_the_newest_which_computes_its_tokens_again():
    limits = profile(kv_tokens=96)  # six blocks for two requests that grow to four each
    steps: list[Step] = []
    found = simulate_replica(limits, [0.0, 0.0], [30, 30], [30, 30], on_step=steps.append)
    assert found.preemptions.tolist() == [0, 1]
    assert found.finish_s[0] < found.finish_s[1]
    again = [s.prefill_tokens for s in steps[1:] if s.prefill_tokens]
    assert len(again) == 1 and 30 < again[0] < 60
    assert np.isfinite(found.finish_s).all()


def test_a_long_prompt_is_not_let_in_on_the_room_for_its_first_chunk():
    # Ten blocks: the first request takes seven to nine; the second needs six, its first chunk two.
    found = simulate_replica(profile(budget=32, kv_tokens=160), [0.0] * 2, [100, 90], [30, 5])
    assert found.preemptions.tolist() == [0, 0]
    assert found.first_token_s[1] > found.finish_s[0]


def test_an_evicted_request_comes_back_ahead_of_those_that_wait():
    found = simulate_replica(
        profile(kv_tokens=96, seqs=2), [0.0, 0.0, 0.01], [30, 30, 30], [30, 30, 30]
    )
    assert found.preemptions[1] == 1
    # The third would fit into what the eviction frees; it must not overtake.
    assert found.first_token_s[2] > found.finish_s[0]
    assert found.finish_s[1] < found.finish_s[2]


def test_blocks_are_given_back_exactly():
    steps: list[Step] = []
    simulate_replica(profile(), [0.0, 1.0, 2.0], [16, 16, 17], [1, 2, 1], on_step=steps.append)
    assert [s.kv_blocks for s in steps] == [1, 1, 2, 2]


def test_larger_blocks_hold_fewer_requests():
    crowd = ([0.0] * 4, [10] * 4, [2] * 4)
    small = simulate_replica(profile(kv_tokens=256), *crowd)
    large = simulate_replica(profile(kv_tokens=256, block_tokens=128), *crowd)
    assert len(set(small.first_token_s)) == 1
    assert len(set(large.first_token_s)) == 2


@pytest.mark.parametrize(("inputs", "outputs"), [(1500, 200), (999, 2), (2, 999)])
def test_a_request_that_can_never_fit_is_rejected_and_counts_as_a_miss(inputs, outputs):
    found = simulate_replica(profile(), [0.0, 0.1], [10, inputs], [2, outputs])
    assert found.rejected.tolist() == [False, True]
    assert attainment(found, Slo(ttft_s=10, tpot_s=10)) == 0.5
    assert percentile(found.ttft_s, 50) < 1
    assert percentile(found.ttft_s, 99) == np.inf
    assert percentile(found.tpot_s, 99) == np.inf


def test_a_burst_goes_to_the_replicas_with_fewest_in_flight():
    found = simulate_group(profile(), 3, [0.0] * 6, [20] * 6, [5] * 6)
    assert found.replica.tolist() == [0, 1, 2, 0, 1, 2]
    alone = simulate_replica(profile(), [0.0] * 2, [20] * 2, [5] * 2)
    assert found.finish_s[:1] == pytest.approx(alone.finish_s[:1])


def test_a_request_in_its_last_step_is_still_in_flight():
    # Replica 0 ends its request at 0.06 s; at 0.05 s the idle replica 1 is the shorter queue.
    found = simulate_group(profile(), 2, [0.0, 0.05, 0.2], [50, 5, 5], [1, 1, 1])
    assert found.replica.tolist() == [0, 1, 0]


def test_attainment_judges_both_limits_over_all_arrivals():
    timings = Timings(
        arrival_s=np.zeros(4),
        first_token_s=np.array([1.0, 1.0, 3.0, 1.0]),
        finish_s=np.array([2.0, 9.0, 4.0, 1.0]),
        output_tokens=np.array([11, 11, 11, 1]),
        rejected=np.zeros(4, dtype=bool),
        replica=np.zeros(4, dtype=int),
        preemptions=np.zeros(4, dtype=int),
    )
    assert timings.tpot_s == pytest.approx([0.1, 0.8, 0.1, np.nan], nan_ok=True)
    assert attainment(timings, Slo(ttft_s=2, tpot_s=0.1)) == 0.5
    assert percentile(timings.tpot_s, 50) == pytest.approx(0.1)


def test_a_trace_object_reads_like_its_arrays():
    trace = SimpleNamespace(
        arrival_s=np.array([0.0, 0.1]),
        input_tokens=np.array([20, 30]),
        output_tokens=np.array([3, 4]),
    )
    whole = simulate_trace(profile(), trace, replicas=2)
    parts = simulate_group(profile(), 2, trace.arrival_s, trace.input_tokens, trace.output_tokens)
    assert whole.finish_s.tolist() == parts.finish_s.tolist()


def test_no_arrivals_miss_nothing():
    found = simulate_replica(profile(), [], [], [])
    assert attainment(found, Slo(ttft_s=1, tpot_s=1)) == 1.0
    assert np.isnan(percentile(found.ttft_s, 50))


@pytest.mark.parametrize(
    ("load", "words"),
    [
        (([0.0, 1.0], [1], [1]), "found 2 arrivals, 1 input and 1 output"),
        (([1.0, 0.5], [1, 1], [1, 1]), "request 1: found arrival 0.5 s.*sort the trace"),
        (([-1.0], [1], [1]), "request 0: found arrival -1.0 s"),
        (([float("nan")], [1], [1]), "request 0: found arrival nan"),
        (([0.0, 1.0], [1, 0], [1, 1]), "request 1: found 0 input and 1 output"),
    ],
)
def test_a_load_that_makes_no_sense_is_refused(load, words):
    with pytest.raises(InputError, match=words):
        simulate_replica(profile(), *load)


@pytest.mark.parametrize(
    ("hits", "words"),
    [([1], "found 1 prefix-hit sizes for 2 requests"), ([0, -1], "request 1: found -1 prefix-hit")],
)
def test_prefix_hits_that_make_no_sense_are_refused(hits, words):
    with pytest.raises(InputError, match=words):
        simulate_replica(profile(), [0.0, 1.0], [5, 5], [1, 1], prefix_hit_tokens=hits)


def test_prompt_tokens_in_the_prefix_cache_are_not_computed_but_take_blocks():
    steps: list[Step] = []
    simulate_replica(profile(), [0.0], [100], [2], prefix_hit_tokens=[64], on_step=steps.append)
    assert [(s.prefill_tokens, s.kv_blocks) for s in steps] == [(36, 7), (0, 7)]


def test_a_group_has_at_least_one_replica():
    with pytest.raises(InputError, match="found 0 replicas"):
        simulate_group(profile(), 0, [0.0], [1], [1])
