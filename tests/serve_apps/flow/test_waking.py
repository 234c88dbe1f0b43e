"""Who finds a model without replicas is told how long one takes to start, as far as it is known."""

from __future__ import annotations

import pytest

from serve_apps.flow.nouns import Refused
from serve_apps.flow.waking import COLD_START_S, DECIDE_S, Waking
from tests.serve_apps.flow import flows
from tests.serve_apps.flow.flows import Flow


def test_what_is_left_of_a_start_is_told() -> None:
    waking = Waking()
    waking.tell(0, 40.0, 0.0)
    assert waking.ready_in_s(100.0) == DECIDE_S + 40.0
    waking.tell(1, None, 110.0)
    assert waking.ready_in_s(110.0) == 40.0
    assert waking.ready_in_s(140.0) == 10.0


def test_without_any_knowledge_a_published_figure_stands_in_from_the_first_request_on() -> None:
    waking = Waking()
    assert waking.ready_in_s(5.0) == COLD_START_S
    assert waking.ready_in_s(25.0) == COLD_START_S - 20.0


def test_a_start_that_was_seen_is_better_than_one_that_was_told() -> None:
    waking = Waking()
    waking.tell(0, 40.0, 0.0)
    waking.tell(1, None, 10.0)
    waking.found(70.0)
    waking.tell(0, 40.0, 200.0)
    waking.tell(1, 40.0, 300.0)
    assert waking.ready_in_s(310.0) == 50.0


def test_the_first_replica_ever_may_have_been_starting_before() -> None:
    waking = Waking()
    waking.tell(1, None, 0.0)
    waking.ready_in_s(0.0)
    waking.found(0.5)
    assert waking.ready_in_s(10.0) == COLD_START_S


def test_a_replica_that_died_is_back_as_late_as_it_was_the_last_time() -> None:
    waking = Waking()
    waking.found(0.0)
    waking.ready_in_s(100.0)
    waking.found(130.0)
    waking.ready_in_s(200.0)
    waking.found(203.0)  # nobody had asked for most of its start
    assert waking.ready_in_s(300.0) == 30.0


def test_a_start_that_takes_too_long_may_take_longer_still() -> None:
    waking = Waking(told_s=40.0)
    waking.ready_in_s(0.0)
    assert waking.ready_in_s(39.9) == pytest.approx(3.99)
    assert waking.ready_in_s(400.0) == 40.0


def test_a_refusal_says_it_and_a_lost_engine_is_asked_for_again_at_once() -> None:
    flow = Flow(flows.plan(flows.group(replicas=1)))
    flow.lease().done(flows.Result.UNREACHABLE)
    flow.lease().done(flows.Result.UNREACHABLE)
    lost = flow.ask()
    assert isinstance(lost, Refused)
    assert lost.retry_after_s == 1.0
    flow.dispatcher.replicas([])
    flow.dispatcher.scaled({"a": 0}, 40.0)
    flow.dispatcher.scaled({"a": 1}, 40.0)
    flow.now += 10.0
    gone = flow.ask()
    assert isinstance(gone, Refused)
    assert gone.kind == "unavailable"
    assert gone.retry_after_s == 30.0
    assert "30 s" in gone.message
