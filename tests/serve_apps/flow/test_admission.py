"""Who cannot be answered in time is told so at once, and when to come back."""

from __future__ import annotations

import pytest

from profiler.core import Slo
from serve_apps.flow.nouns import Anyone, Lease, Refused, Wait
from serve_apps.flow.settings import FlowSettings
from serve_apps.router.base import UnknownModelError
from tests import builders
from tests.serve_apps.flow import flows
from tests.serve_apps.flow.flows import Flow


def full(slo: Slo | None = None, **settings: float) -> Flow:
    of = flows.plan(flows.group(replicas=1, max_num_seqs=4), slo=slo)
    flow = Flow(of, settings=FlowSettings(**settings))  # type: ignore[arg-type]
    assert len(flow.fill()) == 4
    return flow


def until_refused(flow: Flow, caller: Anyone = flows.ANYONE) -> tuple[list[Wait], Refused]:
    waits = []
    while isinstance(answer := flow.ask(caller=caller), Wait):
        waits.append(answer)
    assert isinstance(answer, Refused), answer
    return waits, answer


def test_a_full_group_lets_wait_as_long_as_the_slo_allows_and_refuses_the_rest() -> None:
    waits, refused = until_refused(full())
    assert waits
    assert refused.kind == "overload"
    assert 0 < refused.retry_after_s < 60


def test_the_time_to_come_back_grows_with_the_queue() -> None:
    short = full(slo=builders.slo(ttft_s=1.0, tpot_s=0.1))
    refused = until_refused(short)[1]
    long = full(slo=builders.slo(ttft_s=1.0, tpot_s=0.1))
    for k in range(30):  # tenants of their own: each has a short queue before it
        long.ask(caller=Anyone(f"t{k}"), deadline_s=60.0)
    answer = long.ask()
    assert isinstance(answer, Refused)
    assert answer.retry_after_s > refused.retry_after_s


def test_a_deadline_that_an_idle_engine_would_miss_is_refused() -> None:
    answer = Flow(flows.plan()).ask(tokens=2000, deadline_s=0.01)
    assert isinstance(answer, Refused)
    assert answer.kind == "deadline"
    assert "0.01 s" in answer.message


def test_a_deadline_of_its_own_lets_a_request_wait_longer_than_the_slo() -> None:
    flow = full()
    until_refused(flow)
    assert isinstance(flow.ask(deadline_s=60.0), Wait)


def test_a_whole_answer_needs_more_time_than_a_first_token() -> None:
    flow = Flow(flows.plan())
    assert isinstance(flow.ask(deadline_s=0.2), Lease)
    assert isinstance(flow.ask(deadline_s=0.2, stream=False), Refused)


def test_a_prompt_too_long_for_the_slo_is_served_where_the_engine_is_idle() -> None:
    flow = Flow(flows.plan(slo=builders.slo(ttft_s=0.01, tpot_s=0.1)))
    assert isinstance(flow.ask(tokens=3000), Lease)


def test_a_queue_is_bounded_by_count_too() -> None:
    flow = Flow(
        flows.plan(flows.group(replicas=1, max_num_seqs=4)), settings=FlowSettings(most_queued=3)
    )
    flow.fill()
    waits = [flow.ask(deadline_s=600.0) for _ in range(4)]
    assert [type(w) for w in waits] == [Wait] * 3 + [Refused]
    assert waits[-1].kind == "queue_full"  # type: ignore[union-attr]


def test_without_any_engine_a_request_is_unavailable() -> None:
    flow = Flow(flows.plan())
    flow.dispatcher.replicas([])
    answer = flow.ask()
    assert isinstance(answer, Refused)
    assert answer.kind == "unavailable"


def test_an_unknown_model_is_the_clients_mistake() -> None:
    with pytest.raises(UnknownModelError):
        Flow(flows.plan()).ask(model="nobody")


def test_a_light_tenant_gets_in_where_a_heavy_one_fills_the_queue() -> None:
    flow = full()
    heavy, _ = until_refused(flow, Anyone("heavy"))
    light = flow.ask(caller=Anyone("light"))
    assert isinstance(light, Wait)
    assert all(w.pending for w in heavy[:-1])


def test_who_was_let_in_is_served_though_others_come_before_it() -> None:
    flow = full(slo=builders.slo(ttft_s=4.0, tpot_s=0.1))
    low, _ = until_refused(flow, Anyone("low"))
    high, _ = until_refused(flow, Anyone("high", priority=2))
    assert high
    assert all(w.pending for w in low)


def test_a_higher_priority_displaces_the_newest_of_a_lower_one_that_comes_far_too_late() -> None:
    flow = full(slo=builders.slo(ttft_s=4.0, tpot_s=0.1), grace=0.0)
    low, _ = until_refused(flow, Anyone("low"))
    high = [flow.ask(caller=Anyone("high", priority=2)) for _ in range(4 * len(low))]
    assert isinstance(high[0], Wait)
    displaced = [w for w in low if isinstance(w.answer, Refused)]
    assert displaced
    assert displaced == low[-len(displaced) :]


def test_who_waits_is_refused_when_the_time_is_over() -> None:
    flow = full()
    wait = flow.ask(deadline_s=3.0)
    assert isinstance(wait, Wait)
    flow.now += 3.01
    flow.dispatcher.tick()
    assert isinstance(wait.answer, Refused)
    assert flow.dispatcher.queued == 0
