"""A closed loop's latencies follow from the law, and its throughput from Little's."""

import numpy as np
import pytest

from profiler.closed_loop import Load, closed_loop

LAW = (0.01, 1e-5, 1e-4, 1e-8)


def seen(
    clients=16.0, input_tokens=1000.0, output_tokens=200.0, kv=1e9, request_s=0.0, in_step=0.0
):
    one = [np.array([x]) for x in (clients, input_tokens, output_tokens, kv)]
    return closed_loop(np.array([LAW]), Load(*one), np.array([request_s]), np.array([in_step]))


def test_a_lone_client_meets_no_one():
    alone = seen(clients=1.0, request_s=0.5)
    assert alone.tpot_s[0] == pytest.approx(0.01 + 1e-4 + 1e-8 * 1100)
    assert alone.ttft_s[0] == pytest.approx(0.5 + alone.tpot_s[0] + 1000 * 1e-5)


def test_clients_out_of_step_meet_each_others_prompts_while_they_decode():
    apart, together = seen(in_step=0.0), seen(in_step=1.0)
    assert apart.tpot_s[0] > together.tpot_s[0]
    assert apart.ttft_s[0] < together.ttft_s[0]
    # 15 prompts of 10 ms: all in the answer, or half of them before it.
    assert apart.tpot_s[0] - together.tpot_s[0] == pytest.approx(15 * 0.01 / 2 / 200)
    assert together.ttft_s[0] - apart.ttft_s[0] == pytest.approx(15 * 0.01 / 2)


def test_clients_beyond_the_cache_wait_for_a_place():
    full = seen(clients=32.0, kv=16 * 1100.0)
    half = seen(clients=16.0)
    assert full.tpot_s[0] == pytest.approx(half.tpot_s[0])
    assert full.ttft_s[0] == pytest.approx(half.ttft_s[0] + 200 * half.tpot_s[0])


def test_throughput_is_tokens_over_the_time_of_a_request():
    found = seen()
    lasts = found.ttft_s[0] + 199 * found.tpot_s[0]
    assert found.throughput_tps[0] == pytest.approx(16 * 200 / lasts)
