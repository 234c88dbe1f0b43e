"""Whoever waits is served fairly: by weight and priority, and nobody starves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_apps.flow.nouns import Anyone, Wait
from serve_apps.flow.queue import FairQueue
from tests.serve_apps.flow.flows import ANYONE


def wait(caller: Anyone = ANYONE, load_s: float = 1.0, deadline_s: float = 10.0) -> Wait:
    task: Any = SimpleNamespace(asker=caller, load_s=load_s, deadline_s=deadline_s)
    return Wait(None, task)  # type: ignore[arg-type]


def filled(*waits: Wait) -> FairQueue:
    queue = FairQueue(8.0)
    for each in waits:
        queue.push(each)
    return queue


def served(queue: FairQueue, count: int) -> list[str]:
    return [queue.pop().task.asker.tenant for _ in range(count)]


def test_a_tenant_with_a_long_queue_gets_no_more_than_one_with_a_short_one() -> None:
    many = [wait(Anyone("many")) for _ in range(50)]
    few = [wait(Anyone("few")) for _ in range(5)]
    turns = served(filled(*many, *few), 10)
    assert turns.count("few") == 5


def test_shares_follow_weights_in_load_not_in_requests() -> None:
    heavy = [wait(Anyone("heavy", weight=3.0), load_s=2.0) for _ in range(90)]
    light = [wait(Anyone("light"), load_s=1.0) for _ in range(90)]
    turns = served(filled(*heavy, *light), 100)
    assert turns.count("heavy") * 2.0 / turns.count("light") == pytest.approx(3.0, rel=0.1)


def test_a_higher_priority_goes_first_but_does_not_starve_a_lower_one() -> None:
    low = [wait(Anyone("low")) for _ in range(20)]
    high = [wait(Anyone("high", priority=1)) for _ in range(200)]
    turns = served(filled(*low, *high), 90)
    assert turns[0] == "high"
    assert turns.count("low") == pytest.approx(10, abs=1)


def test_inside_a_tenant_the_earliest_deadline_goes_first() -> None:
    late, soon = wait(deadline_s=9.0), wait(deadline_s=1.0)
    assert filled(late, soon).pop() is soon


def test_those_who_go_on_asking_are_reckoned_with_before_they_ask() -> None:
    queue = filled(*(wait(Anyone("loud")) for _ in range(200)))
    for _ in range(100):
        queue.push(wait(Anyone("quiet")))  # never has more than one there
        served(queue, 2)
    assert [w.task.asker.tenant for w in queue] == ["loud"] * 100
    assert queue.ahead_s(Anyone("loud"), 10.0) == pytest.approx(200, rel=0.2)
    assert queue.ahead_s(Anyone("quiet"), 10.0) <= 2
    assert queue.ahead_s(Anyone("new"), 10.0) <= 2


def test_those_who_asked_long_ago_are_not() -> None:
    queue = filled(*(wait(Anyone("past")) for _ in range(50)))
    served(queue, 50)
    for _ in range(600):
        queue.push(wait(Anyone("now")))
        served(queue, 1)
    for _ in range(10):
        queue.push(wait(Anyone("now")))
    assert queue.ahead_s(Anyone("now"), 10.0) == pytest.approx(10)


def test_an_idle_tenant_saves_nothing_up() -> None:
    queue = filled(*[wait(Anyone("busy")) for _ in range(30)])
    served(queue, 20)
    for _ in range(10):
        queue.push(wait(Anyone("late")))
    assert served(queue, 10).count("late") == pytest.approx(5, abs=1)


def test_what_is_ahead_of_a_new_tenant_is_not_the_whole_queue() -> None:
    queue = filled(*[wait(Anyone("many")) for _ in range(50)])
    assert queue.ahead_s(Anyone("new"), 10.0) <= 1.0
    assert queue.ahead_s(Anyone("many"), 10.0) == pytest.approx(50.0)


def test_the_last_to_be_served_is_the_newest_of_who_has_most() -> None:
    waits = [wait(Anyone("many")) for _ in range(5)]
    assert filled(*waits, wait(Anyone("few"))).last() is waits[-1]


Callers = st.builds(
    Anyone, st.sampled_from("abc"), st.sampled_from([0.5, 1.0, 2.0]), st.integers(-1, 1)
)


@given(st.lists(st.tuples(Callers, st.floats(0.01, 10.0), st.booleans()), max_size=40))
def test_everyone_leaves_once_and_nothing_is_left(asked: list[tuple[Anyone, float, bool]]) -> None:
    queue = FairQueue(8.0)
    waits = [(wait(caller, load_s), removed) for caller, load_s, removed in asked]
    for each, _ in waits:
        queue.push(each)
    for each, removed in waits:
        if removed:
            assert queue.remove(each)
            assert not queue.remove(each)
    kept = {id(each) for each, removed in waits if not removed}
    assert len(queue) == len(kept)
    assert {id(queue.pop()) for _ in range(len(queue))} == kept
    assert queue.head() is None
    assert queue.load_s == 0.0
