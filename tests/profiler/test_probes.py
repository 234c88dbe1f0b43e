"""Probes stay inside the engine's limits, and the points they show lie on the law."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.core import EngineOptions, ReplicaConfig, StepTime
from profiler.probes import (
    Probe,
    decode_point,
    design,
    fold,
    limits_of,
    mixed_point,
    nearby,
    points_of,
)
from profiler.timing import Outcome, RequestTiming

LAW = StepTime(base_s=0.05, per_prefill_token_s=2e-3, per_sequence_s=2e-3, per_kv_token_s=1e-5)


def config(max_num_seqs: int = 4, max_num_batched_tokens: int = 2048) -> ReplicaConfig:
    engine = EngineOptions(max_num_seqs=max_num_seqs, max_num_batched_tokens=max_num_batched_tokens)
    return ReplicaConfig(model="fake-model", gpu="cpu", engine=engine)


def batch(sequences: int, context: int, steps: int, *, stagger: int = 0) -> list[RequestTiming]:
    """Timings of equal requests, request i prefilled i * stagger steps late, exactly by LAW.

    All steps are computed as if the whole batch decoded, which holds in the steady window.
    """
    clock = [0.0]
    start = stagger * (sequences - 1)
    for step in range(start + steps):
        made = [max(0, step - i * stagger + 1) for i in range(sequences)]
        kv_tokens = sum(context + m for m in made)
        clock.append(clock[-1] + LAW(0, sequences, kv_tokens))
    timings = []
    for i in range(sequences):
        tokens = [(clock[k], k - i * stagger + 1) for k in range(i * stagger, len(clock))]
        timings.append(
            RequestTiming(
                0.0,
                Outcome.OK,
                tokens=tuple(tokens[:steps]),
                input_tokens=context,
                output_tokens=steps,
            )
        )
    return timings


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 8), st.integers(1, 500), st.integers(5, 30), st.integers(0, 2))
def test_a_decode_point_lies_on_the_law(sequences, context, steps, stagger):
    timings = batch(sequences, context, steps, stagger=stagger)
    point = decode_point(timings)
    if stagger * (sequences - 1) > steps - 2:
        assert point is None
    else:
        assert point.sequences == sequences
        assert point.time_s == pytest.approx(point.predicted_s(LAW), rel=1e-9)


@pytest.mark.parametrize("sequences", [1, 5])
def test_a_stall_does_not_move_the_point(sequences):
    timings = batch(sequences, 100, 25)
    stalled = [
        replace(t, tokens=tuple((at + 10.0 * (n > 12), c) for n, (at, c) in enumerate(t.tokens)))
        for t in timings
    ]
    assert decode_point(stalled).time_s == pytest.approx(decode_point(timings).time_s, rel=0.01)


def test_one_jittery_stream_hardly_moves_the_point():
    timings = batch(5, 100, 25)
    late = tuple((at + 0.05 * (n % 2), count) for n, (at, count) in enumerate(timings[0].tokens))
    disturbed = decode_point([replace(timings[0], tokens=late), *timings[1:]])
    assert disturbed.time_s == pytest.approx(decode_point(timings).time_s, rel=0.02)


def test_a_lone_request_shows_prefill_and_decode():
    timing = replace(batch(1, 5000, 10)[0], sent_s=-3.0)
    prefill, decode = points_of(Probe(1, 5000, 10), [timing], config(max_num_batched_tokens=2048))
    assert (prefill.kind, prefill.steps, prefill.prefill_tokens) == ("prefill", 3, 5000)
    assert prefill.time_s == 3.0
    assert (decode.kind, decode.sequences) == ("decode", 1)


def test_repeats_fold_to_their_median():
    point = decode_point(batch(1, 10, 10))
    folded = fold([replace(point, time_s=t) for t in (1.0, 4.0, 2.0)])
    assert (folded.time_s, folded.spread, folded.repeats) == (2.0, 1.5, 3)
    two = fold([replace(point, time_s=1.0, steps=10), replace(point, time_s=3.0, steps=14)])
    assert (two.time_s, two.steps) == (2.0, 12)


limits = st.builds(
    lambda seqs, budget, longest, kv: limits_of(config(seqs, budget), longest, kv),
    st.integers(1, 512),
    st.integers(16, 8192),
    st.integers(64, 40_000),
    st.integers(64, 400_000),
)


@settings(deadline=None, max_examples=50)
@given(limits)
def test_probes_stay_inside_the_engines_limits(limits):
    planned = design(limits)
    found = nearby(Probe(3, 20, 24), planned, limits)
    for probe in [*planned, *([found] if found else [])]:
        longest = max(probe.output_of(client) for client in range(probe.sequences))
        assert 1 <= probe.sequences <= min(limits.max_num_seqs, limits.max_num_batched_tokens)
        assert probe.input_tokens + longest < limits.max_model_len
        assert probe.sequences * (probe.input_tokens + longest) <= limits.kv_capacity_tokens


def test_a_new_probe_lies_beside_the_worst_and_is_never_one_done():
    room = limits_of(config(32, 512), 2048, 40_000)
    done = design(room)
    worst = room.batch(6, 32)
    found = []
    for _ in range(4):
        found.append(nearby(worst, [*done, *found], room))
    assert len({(p.sequences, p.input_tokens) for p in [worst, *found]}) == 5
    assert all(3 <= p.sequences <= 12 and 16 <= p.input_tokens <= 144 for p in found)


def loop(law: StepTime, outputs: list[int], context: int) -> list[RequestTiming]:
    """One request per client, all prefilled in a first step, then decoding until each ends."""
    clock, times = 0.0, []
    for step in range(max(outputs)):
        live = [o for o in outputs if o > step]
        if step == 0:
            clock += law(context * len(outputs), 0, 0)
        else:
            clock += law(0, len(live), len(live) * (context + step))
        times.append(clock)
    return [
        RequestTiming(
            0.0,
            Outcome.OK,
            tokens=tuple((times[k], k + 1) for k in range(o)),
            input_tokens=context,
            output_tokens=o,
        )
        for o in outputs
    ]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(2, 20), min_size=1, max_size=6), st.integers(1, 80))
def test_a_mixed_point_lies_on_the_law(outputs, context):
    point = mixed_point(loop(LAW, outputs, context), config())
    assert point.steps == max(outputs)
    assert (point.prefill_tokens, point.overheads) == (context * len(outputs), 1)
    assert point.time_s == pytest.approx(point.predicted_s(LAW), rel=1e-9)


def test_clients_of_a_loop_end_one_by_one():
    probe = Probe(4, 100, 12, rounds=2)
    assert probe.requests == 8
    assert len({probe.output_of(client) for client in range(4)}) == 4
    assert {Probe(4, 100, 12).output_of(client) for client in range(4)} == {12}
