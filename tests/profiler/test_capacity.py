"""The highest rate inside an SLO: every limit binds where it should, and loosening never hurts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.capacity import Replica, high_quantile, why_infeasible
from tests.builders import profile, slo, step_time


def rate(p, target, input_tokens=512.0, output_tokens=128.0):
    replica = Replica(p, np.array([input_tokens]), np.array([output_tokens]))
    return replica.max_rate_rps(target)[0]


def test_the_rate_found_sits_on_a_limit():
    replica = Replica(profile(), np.array([512.0]), np.array([128.0]))
    best = replica.max_rate_rps(slo(tpot_s=0.03))
    assert replica.latency(best, 0.95).tpot_s[0] == pytest.approx(0.03, rel=1e-3)


def test_without_noise_the_rate_follows_from_littles_law():
    law = step_time(base_s=0.02, per_prefill_token_s=0, per_sequence_s=1e-12, per_kv_token_s=0)
    p = profile(law=law, max_num_seqs=10)
    assert rate(p, slo(attainment=0.5), output_tokens=101) == pytest.approx(10 / (100 * 0.02))


def test_an_answer_of_one_token_has_no_tpot():
    tight = slo(tpot_s=1e-6)
    assert rate(profile(), tight, output_tokens=2) == 0
    per_prompt_s = 512 * profile().step_time.per_prefill_token_s
    assert 0.5 / per_prompt_s < rate(profile(), tight, output_tokens=1) < 1 / per_prompt_s


def test_what_a_request_costs_outside_the_steps_counts_into_ttft():
    slow = profile().model_copy(update={"request_overhead_s": 0.5})
    n = np.array([2.0])
    sizes = np.array([512.0]), np.array([128.0])
    with_it = Replica(slow, *sizes).latency(n, 0.95)
    without = Replica(profile(), *sizes).latency(n, 0.95)
    assert with_it.ttft_s - without.ttft_s == pytest.approx(0.5)
    assert with_it.tpot_s == without.tpot_s


def test_kv_capacity_limits_the_batch():
    wide = rate(profile(kv_capacity_tokens=100_000), slo(tpot_s=1.0))
    narrow = rate(profile(kv_capacity_tokens=5_000), slo(tpot_s=1.0))
    assert narrow < wide / 3


@pytest.mark.parametrize(
    ("p", "target", "words"),
    [
        (profile(law=step_time(base_s=0.1)), slo(), "TPOT is 100.2 ms with no other load"),
        (profile(), slo(ttft_s=0.02), "TTFT is"),
        (profile(max_model_len=600), slo(), "640 tokens exceed the 600"),
        (profile(kv_capacity_tokens=600), slo(), "640 tokens exceed the KV cache of 600"),
    ],
)
def test_an_impossible_size_has_no_rate_and_a_reason(p, target, words):
    assert rate(p, target) == 0
    assert words in why_infeasible(p, 512, 128, target)


@given(
    inputs=st.integers(1, 8000),
    outputs=st.integers(1, 2000),
    ttft_s=st.floats(0.05, 10),
    tpot_s=st.floats(0.012, 0.2),
    looser=st.floats(1, 3),
    share=st.floats(0.5, 0.99),
)
def test_looser_targets_never_lower_the_rate(inputs, outputs, ttft_s, tpot_s, looser, share):
    tight = rate(profile(), slo(ttft_s, tpot_s, share), inputs, outputs)
    loose = rate(profile(), slo(ttft_s * looser, tpot_s * looser, share), inputs, outputs)
    assert loose >= tight * (1 - 1e-6)


@given(
    inputs=st.integers(1, 8000),
    outputs=st.integers(1, 2000),
    more=st.integers(0, 500),
    share=st.floats(0.5, 0.99),
)
def test_longer_prompts_never_go_faster(inputs, outputs, more, share):
    short = rate(profile(), slo(attainment=share), inputs, outputs)
    assert rate(profile(), slo(attainment=share), inputs + more, outputs) <= short * (1 + 1e-6)


def test_the_quantile_is_that_of_a_poisson_number_in_the_batch():
    within = np.random.default_rng(0).poisson(100, 100_000) <= high_quantile(
        np.array([100.0]), 0.95
    )
    assert within.mean() == pytest.approx(0.95, abs=0.01)
