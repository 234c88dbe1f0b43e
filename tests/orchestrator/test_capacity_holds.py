"""A rate the planner believes in holds when the requests are replayed step by step."""

import numpy as np
import pytest

from orchestrator.simulator import attainment, simulate_replica
from profiler.capacity import Replica
from tests.builders import fitted, gpu, model, profile, slo, step_time

REQUESTS = 1500
HEADROOM = 0.85


def poisson(rate_rps, seed):
    return np.cumsum(np.random.default_rng(seed).exponential(1 / rate_rps, REQUESTS))


def attained(p, target, input_tokens, output_tokens, share_of_max, seed=0):
    replica = Replica(p, np.array([float(input_tokens)]), np.array([float(output_tokens)]))
    rate = replica.max_rate_rps(target)[0] * share_of_max
    sizes = (np.full(REQUESTS, input_tokens), np.full(REQUESTS, output_tokens))
    return attainment(simulate_replica(p, poisson(rate, seed), *sizes), target)


@pytest.mark.parametrize(
    ("p", "target", "sizes"),
    [
        (fitted(model(), gpu()), slo(), (1024, 256)),
        (fitted(model(), gpu()), slo(), (100, 30)),
        (fitted(model(), gpu()), slo(1.0, 0.04), (4000, 100)),
        (profile(max_num_seqs=16), slo(tpot_s=0.5), (200, 200)),
        (profile(kv_capacity_tokens=20_000), slo(tpot_s=0.5), (1000, 300)),
        (profile(law=step_time(base_s=0.03, per_prefill_token_s=2.6e-3)), slo(3, 0.3), (80, 30)),
    ],
)
def test_planned_rates_keep_the_slo(p, target, sizes):
    assert attained(p, target, *sizes, HEADROOM) >= target.attainment


@pytest.mark.parametrize("sizes", [(1024, 256), (100, 30)])
def test_they_are_not_timid(sizes):
    """Half as much again as the highest rate misses the SLO, so little is left unused."""
    assert attained(fitted(model(), gpu()), slo(), *sizes, 1.5) < 0.5
