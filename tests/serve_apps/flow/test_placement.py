"""A request goes to the replica that would be done with it first."""

from __future__ import annotations

from collections import Counter

import pytest

from serve_apps.flow.nouns import Lease, Result
from serve_apps.flow.settings import FlowSettings
from tests.serve_apps.flow import flows
from tests.serve_apps.flow.flows import Flow


def fleet(replicas: int = 4, **kwargs: int) -> Flow:
    return Flow(flows.plan(flows.group(replicas=replicas, **kwargs)))


@pytest.mark.parametrize("replicas", [4, 16])
def test_equal_replicas_share_equally(replicas: int) -> None:
    flow = fleet(replicas)
    sent = Counter(flow.lease().replica.id for _ in range(5 * replicas))
    assert set(sent.values()) == {5}


def test_a_long_prompt_counts_for_more_than_a_short_one() -> None:
    flow = fleet(2, max_num_seqs=64)
    long = flow.lease(tokens=4000)
    others = [flow.lease(tokens=10) for _ in range(4)]
    assert long.replica not in {x.replica for x in others}


def test_among_many_replicas_two_draws_keep_the_load_even() -> None:
    flow = fleet(64, max_num_seqs=64)
    sent = Counter(flow.lease().replica.id for _ in range(640))
    assert len(sent) == 64
    assert max(sent.values()) <= 14


def test_a_slow_replica_gets_less() -> None:
    flow = fleet(2, max_num_seqs=64)
    sent: Counter[str] = Counter()
    under_way: list[tuple[float, Lease]] = []
    for _ in range(2000):
        flow.now += 0.01
        for due_s, lease in [x for x in under_way if x[0] <= flow.now]:
            under_way.remove((due_s, lease))
            lease.first_byte()
            lease.done(Result.OK, 1)
        lease = flow.lease()
        sent[lease.replica.id] += 1
        slow = 5.0 if lease.replica.id == "a/0" else 1.0
        under_way.append((flow.now + slow * 0.05, lease))
    assert sent["a/0"] < 0.3 * sent["a/1"]


def answered(flow: Flow, **kwargs: object) -> Lease:
    lease = flow.lease(**kwargs)
    lease.first_byte()
    lease.done(Result.OK, 20)
    return lease


def test_a_session_returns_to_where_its_prompt_is_cached() -> None:
    flow = fleet(4)
    first = answered(flow, tokens=1000, session="s")
    for _ in range(3):
        flow.lease()
    assert answered(flow, tokens=1100, session="s").replica == first.replica


def test_a_session_leaves_a_replica_that_is_too_busy() -> None:
    flow = fleet(2, max_num_seqs=64)
    first = answered(flow, tokens=100, session="s")
    for _ in range(40):
        lease = flow.lease(tokens=2000)
        if lease.replica != first.replica:
            lease.done(Result.CANCELLED)
    assert flow.lease(tokens=110, session="s").replica != first.replica


def test_prompts_that_begin_alike_go_to_one_replica() -> None:
    flow = fleet(4)
    first = answered(flow, tokens=2000, prefix=17)
    assert {answered(flow, tokens=2000, prefix=17).replica for _ in range(5)} == {first.replica}


def test_no_replica_is_given_more_than_keeps_the_tpot() -> None:
    slo = flows.Slo(ttft_s=1.0, tpot_s=0.0105)
    flow = Flow(flows.plan(flows.group(replicas=1, max_num_seqs=64), slo=slo))
    held = flow.fill()
    assert 1 < len(held) < 64
    assert all(x.predicted_tpot_s <= 0.0106 for x in held)


def learned(ttft_s: float, tokens: int) -> Flow:
    """A replica whose first tokens always took so long."""
    flow = fleet(1)
    for _ in range(200):
        lease = flow.lease(tokens=tokens)
        flow.now += ttft_s
        lease.first_byte()
        lease.done(Result.OK, 1)
    return flow


@pytest.mark.parametrize(("ttft_s", "tokens"), [(0.3, 50), (0.9, 3000)])
def test_the_time_to_first_token_is_learned(ttft_s: float, tokens: int) -> None:
    flow = learned(ttft_s, tokens)
    assert flow.lease(tokens=tokens).predicted_ttft_s == pytest.approx(ttft_s, rel=0.05)


def test_a_host_that_is_slow_for_short_prompts_is_not_reckoned_slower_still_for_long_ones() -> None:
    before = fleet(1).lease(tokens=3000).predicted_ttft_s
    after = learned(0.3, 50).lease(tokens=3000).predicted_ttft_s
    assert before < after < before + 2 * 0.3


def test_of_two_gateways_each_keeps_to_its_half_of_the_engines() -> None:
    plan = flows.plan(flows.group(replicas=2, max_num_seqs=16))
    assert len(Flow(plan, settings=FlowSettings(gateways=2)).fill()) == 16
    assert len(Flow(plan).fill()) == 32
