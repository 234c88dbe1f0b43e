"""Retries go elsewhere, before the first byte, and never become the load."""

from __future__ import annotations

import pytest

from serve_apps.flow.nouns import Lease, Result
from tests.serve_apps.flow import flows
from tests.serve_apps.flow.flows import Flow


def three() -> Flow:
    return Flow(flows.plan(flows.group(replicas=3)))


def test_a_lost_connection_is_tried_on_another_replica() -> None:
    flow = three()
    lease = flow.lease()
    lease.done(Result.UNREACHABLE)
    again = flow.dispatcher.retry(lease)
    assert again is not None
    assert again.replica != lease.replica
    assert again.attempt == 2


def test_nothing_is_retried_after_the_first_byte() -> None:
    flow = three()
    lease = flow.lease()
    lease.first_byte()
    lease.done(Result.CUT)
    assert flow.dispatcher.retry(lease) is None


def test_a_request_that_kills_engines_is_given_up() -> None:
    flow = Flow(flows.plan(flows.group(replicas=8)))
    lease: Lease | None = flow.lease()
    tries = 0
    while lease is not None:
        tries += 1
        lease.done(Result.UNREACHABLE)
        lease = flow.dispatcher.retry(lease)
    assert tries == 3


def test_nothing_is_retried_after_its_deadline() -> None:
    flow = three()
    lease = flow.lease(deadline_s=2.0)
    flow.now += 2.0
    lease.done(Result.UNREACHABLE)
    assert flow.dispatcher.retry(lease) is None


@pytest.mark.parametrize("requests", [50, 400])
def test_when_every_engine_says_503_there_are_at_most_six_tries_for_five_requests(
    requests: int,
) -> None:
    flow, tries = three(), 0
    for _ in range(requests):
        flow.now += 0.02
        flow.probe()
        lease = flow.ask()
        while isinstance(lease, Lease):
            tries += 1
            lease.done(Result.ENGINE_ERROR)
            lease = flow.dispatcher.retry(lease)  # type: ignore[assignment]
    assert tries <= 1.2 * requests


def test_a_retry_goes_to_another_group_when_its_own_is_gone() -> None:
    flow = Flow(flows.plan(flows.group("a", replicas=1), flows.group("b", replicas=1)))
    lease = flow.lease()
    lease.done(Result.UNREACHABLE)
    again = flow.dispatcher.retry(lease)
    assert again is not None
    assert {lease.replica.group, again.replica.group} == {"a", "b"}
    assert again.decision.group == again.replica.group


def test_a_named_model_is_retried_on_that_model_only() -> None:
    flow = Flow(flows.plan(flows.group("a", replicas=1), flows.group("b", "m2", replicas=1)))
    lease = flow.lease(model="m1")
    lease.done(Result.UNREACHABLE)
    assert flow.dispatcher.retry(lease) is None


def test_who_can_go_elsewhere_gives_up_a_silent_engine_and_the_last_one_is_waited_for() -> None:
    flow = Flow(flows.plan(flows.group(replicas=2)))
    leases = [flow.lease(), flow.lease()]
    assert {x.replica.id for x in leases} == {"a/0", "a/1"}
    flow.now += leases[0].patience_s
    assert flow.dispatcher.more_patience_s(leases[0]) == 0.0
    leases[0].done(Result.TIMEOUT)
    assert flow.dispatcher.more_patience_s(leases[1]) > 0.0
    flow.probe()
    flow.now += 3600.0
    assert flow.dispatcher.more_patience_s(leases[1]) == 0.0


def test_who_could_not_pay_for_a_retry_waits_on_until_it_can() -> None:
    flow = Flow(flows.plan(flows.group(replicas=8)))
    leases = [flow.lease() for _ in range(16)]
    flow.now += leases[0].patience_s
    while flow.dispatcher.more_patience_s(leases[0]) == 0.0:
        late = leases.pop()
        late.done(Result.TIMEOUT)
        assert flow.dispatcher.retry(late) is not None
    for _ in range(10):
        flow.lease()
    assert flow.dispatcher.more_patience_s(leases[0]) == 0.0
