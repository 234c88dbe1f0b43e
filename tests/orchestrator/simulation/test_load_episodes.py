"""Practice episodes: every request once, no reward for late answers, and a learner that learns."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.simulation.load_episodes import Pattern, Sizes, pattern, play, sizes_of
from orchestrator.simulation.load_policy import Always, Learned, Priced, policy_of
from placement.plan import Plan
from profiler.core import Slo
from serve_apps.router.load_values import LoadValues, Verdict, pool_of
from tests.serve_apps.flow import flows

SIZES = Sizes(np.array([50, 100, 150]), np.array([10, 30, 60]))


def plan() -> Plan:
    large = flows.group("slow", "large", replicas=1, max_num_seqs=8, base_s=0.05)
    small = flows.group("fast", "small", replicas=2, max_num_seqs=32)
    return flows.plan(large, small, slo=Slo(ttft_s=0.5, tpot_s=0.1, attainment=0.95))


def quality(count: int) -> np.ndarray:
    return np.tile([0.9, 0.6], (count, 1))


def busy(rate_rps: float, count: int = 200) -> Pattern:
    rng = np.random.default_rng(0)
    rows = rng.integers(3, size=count)
    arrival_s = np.cumsum(rng.exponential(1 / rate_rps, count))
    return Pattern(arrival_s, SIZES.input_tokens[rows], SIZES.output_tokens[rows], "poisson")


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_patterns_are_in_order_and_within_bounds(seed: int) -> None:
    found = pattern(pool_of(plan()), SIZES, np.random.default_rng(seed))
    assert len(found) >= 1
    assert (np.diff(found.arrival_s) >= 0).all()
    assert found.arrival_s[0] >= 0
    assert len(found.input_tokens) == len(found.output_tokens) == len(found)


def test_sizes_of_a_plan_follow_its_buckets() -> None:
    found = sizes_of(plan(), np.random.default_rng(0))
    assert found.input_tokens.mean() == pytest.approx(200, rel=0.1)
    assert found.output_tokens.mean() == pytest.approx(50, rel=0.1)


def test_each_request_has_one_action_and_only_answers_in_time_are_rewarded() -> None:
    of, asked = plan(), busy(60.0)
    pool = pool_of(of)
    swamped = play(of, pool, asked, quality(len(asked)), Always("large"))
    assert len(swamped.action) == len(swamped.reward) == len(asked)
    assert set(swamped.reward.tolist()) == {0.0, 0.9}
    assert swamped.met_share == pytest.approx((swamped.reward > 0).mean())
    assert swamped.met_share < 0.9
    easy = play(of, pool, asked, quality(len(asked)), Always("small"))
    assert set(easy.action.tolist()) == {1}
    assert easy.reward.sum() == pytest.approx(0.6 * easy.met_share * len(asked))


def test_pricing_earns_more_than_either_model_alone() -> None:
    of, asked = plan(), busy(12.0)
    pool = pool_of(of)
    earned = {
        name: play(of, pool, asked, quality(len(asked)), policy).earned_share
        for name, policy in (
            ("large", Always("large")),
            ("small", Always("small")),
            ("priced", Priced(1.0)),
        )
    }
    assert earned["priced"] > max(earned["large"], earned["small"])


def test_the_verdict_decides_who_acts() -> None:
    pool = pool_of(plan())
    layers = ((np.zeros((12, 2)), np.array([1.0, 0.0])),)
    won = Verdict(0.97, 0.9, 0.005, 0.99, 0.99, 24, 0.3)
    lost = Verdict(0.9, 0.97, 0.005, 0.99, 0.99, 24, 0.3)
    assert policy_of(LoadValues(pool, layers, won)) == Learned(LoadValues(pool, layers, won))
    assert policy_of(LoadValues(pool, layers, lost)) == Priced(0.3)
