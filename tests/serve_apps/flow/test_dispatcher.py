"""The dispatcher's decisions over several models, and what it tells of itself."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from serve_apps.flow.nouns import Anyone, Lease, Refused, Result, Wait
from serve_apps.router.learned import LearnedRouter
from tests import router_builders
from tests.serve_apps.flow import flows
from tests.serve_apps.flow.flows import Flow


def two_models(**kwargs: int) -> Flow:
    return Flow(
        flows.plan(
            flows.group("big", "m1", replicas=1, **kwargs),
            flows.group("small", "m2", replicas=1, **kwargs),
        )
    )


def test_in_calm_requests_go_by_the_plans_shares() -> None:
    flow = Flow(flows.plan(flows.group("a", replicas=3), flows.group("b", "m2", replicas=1)))
    sent: Counter[str] = Counter()
    for _ in range(80):
        lease = flow.lease()
        sent[lease.replica.group] += 1
        lease.done(Result.OK, 20)
    assert sent == {"a": 60, "b": 20}


def test_when_one_model_is_full_the_other_takes_its_requests_and_says_so() -> None:
    flow = two_models(max_num_seqs=4)
    named = []
    while isinstance(answer := flow.ask(model="m1"), (Lease, Wait)):
        named.append(answer)
    moved = [flow.lease() for _ in range(4)]
    assert {x.replica.group for x in moved} == {"small"}
    assert flow.dispatcher.snapshot().shed == sum(x.shed for x in moved) > 0


def test_a_named_model_is_refused_rather_than_answered_by_another() -> None:
    flow = two_models(max_num_seqs=4)
    answers = [flow.ask(model="m1") for _ in range(60)]
    assert isinstance(answers[-1], Refused)
    leases = [x for x in answers if isinstance(x, Lease)]
    assert {x.decision.model for x in leases} == {"m1"}
    assert isinstance(flow.ask(model="m2"), Lease)


def test_who_waits_for_a_group_that_dies_is_moved() -> None:
    flow = Flow(
        flows.plan(
            flows.group("a", replicas=1, max_num_seqs=2),
            flows.group("b", replicas=1, max_num_seqs=2),
        )
    )
    held = flow.fill(deadline_s=100.0)
    waits = [flow.ask(deadline_s=100.0) for _ in range(4)]
    assert all(isinstance(w, Wait) for w in waits)
    flow.dispatcher.replicas([r for r in flow.found if r.group == "b"])
    assert {w.task.decision.group for w in waits} == {"b"}  # type: ignore[union-attr]
    for lease in held:
        lease.done(Result.OK, 20)
    given = [w.answer for w in waits if isinstance(w, Wait) and isinstance(w.answer, Lease)]
    assert given
    assert {x.replica.group for x in given} == {"b"}


def test_a_group_with_room_takes_over_from_another_of_the_same_model() -> None:
    flow = Flow(
        flows.plan(
            flows.group("a", replicas=1, max_num_seqs=2),
            flows.group("b", replicas=1, max_num_seqs=2),
        )
    )
    held = flow.fill(deadline_s=100.0)
    wait = flow.ask(deadline_s=100.0)
    assert isinstance(wait, Wait)
    other = next(x for x in held if x.replica.group != wait.task.decision.group)
    other.done(Result.OK, 20)
    assert isinstance(wait.answer, Lease)
    assert wait.answer.replica == other.replica


def test_a_new_plan_keeps_count_of_what_is_in_flight() -> None:
    flow = two_models()
    held = [flow.lease() for _ in range(4)]
    smaller = flows.plan(flow.plan.groups[0])
    flow.dispatcher.configure(smaller, flows.RouteTable(smaller))
    assert flow.dispatcher.in_flight == 4
    assert {flow.lease().replica.group for _ in range(3)} == {"big"}
    for lease in held:
        lease.done(Result.OK, 20)
    assert flow.dispatcher.in_flight == 3


def test_who_waits_for_a_model_that_a_new_plan_drops_is_refused() -> None:
    flow = two_models(max_num_seqs=2)
    held = flow.fill(model="m2", deadline_s=100.0)
    wait = flow.ask(model="m2", deadline_s=100.0)
    assert isinstance(wait, Wait)
    smaller = flows.plan(flow.plan.groups[0])
    flow.dispatcher.configure(smaller, flows.RouteTable(smaller))
    assert isinstance(wait.answer, Refused)
    assert wait.answer.kind == "unavailable"
    held[0].done(Result.UNREACHABLE)
    assert flow.dispatcher.retry(held[0]) is None


def test_a_group_that_changes_its_model_answers_nobody_who_waits_for_the_old_one() -> None:
    flow = Flow(flows.plan(flows.group("a", "m1", replicas=1, max_num_seqs=2)))
    held = flow.fill(deadline_s=100.0)
    wait = flow.ask(deadline_s=100.0)
    assert isinstance(wait, Wait)
    other = flows.plan(flows.group("a", "m2", replicas=1, max_num_seqs=2))
    flow.dispatcher.configure(other, flows.RouteTable(other))
    flow.dispatcher.replicas(flow.found)
    for lease in held:
        lease.done(Result.OK, 20)
    assert isinstance(wait.answer, Refused) or wait.task.decision.model == "m2"
    assert flow.dispatcher.in_flight == flow.dispatcher.snapshot().groups[0].in_flight


def learned(clock_of: list[Flow]) -> LearnedRouter:
    """Half of the prompts gain much by m1, the others little."""
    groups = flows.group("big", "m1", 1, 4), flows.group("small", "m2", 1, 16)
    plan = flows.plan(*groups)
    quality = np.array([[0.9, 0.1], [0.6, 0.5]] * 20)
    artefact = router_builders.artefact(("m1", "m2"), quality, output_tokens=50, input_tokens=100)
    only_big = plan.routes[0].model_copy(update={"shares": {"big": 1.0}})
    made = plan.model_copy(
        update={"router": router_builders.planned_router(("m1", "m2")), "routes": (only_big,)}
    )
    return LearnedRouter(made, artefact, clock=lambda: clock_of[0].now if clock_of else 0.0)


def shed_first(callers: dict[str, Anyone], prompts: dict[str, tuple[float, float]]) -> list[str]:
    """Under growing load, the order in which kinds of requests first leave the big model."""
    held: list[Flow] = []
    router = learned(held)
    flow = Flow(flows.plan(flows.group("big", "m1", 1, 4), flows.group("small", "m2", 1, 16)))
    flow.router = router
    held.append(flow)
    flow.dispatcher.configure(flow.plan, router)
    moved: list[str] = []
    for _ in range(12):
        for name, quality in prompts.items():
            asked = {"prompt": router_builders.prompt(*quality, output_tokens=50)}
            answer = flow.ask(caller=callers.get(name, flows.ANYONE), **asked)
            decision = answer.task.decision if not isinstance(answer, Refused) else None
            if decision is not None and decision.model == "m2" and name not in moved:
                assert decision.shed
                moved.append(name)
    return moved


def test_who_loses_least_quality_is_moved_first() -> None:
    assert shed_first({}, {"hard": (0.9, 0.1), "easy": (0.6, 0.595)})[0] == "easy"


def test_a_higher_priority_is_moved_last() -> None:
    callers = {"paid": Anyone("paid", priority=1), "free": Anyone("free", priority=-1)}
    prompts = {"paid": (0.6, 0.5), "free": (0.6, 0.5)}
    assert shed_first(callers, prompts)[0] == "free"


def test_a_snapshot_tells_what_is_where() -> None:
    flow = two_models(max_num_seqs=4)
    while not isinstance(flow.ask(), Refused):
        pass
    told = flow.dispatcher.snapshot()
    by_name = {g.name: g for g in told.groups}
    assert sum(g.in_flight for g in told.groups) == flow.dispatcher.in_flight == 8
    assert by_name["big"].queued > 0
    assert by_name["big"].price > by_name["big"].planned_price
    assert told.refused == {"overload": 1}
    assert told.arrived == told.dispatched + sum(g.queued for g in told.groups) + 1


def test_a_replica_that_leaves_and_returns_still_has_what_it_runs() -> None:
    flow = Flow(flows.plan(flows.group("a", replicas=2, max_num_seqs=4)))
    held = [lease for lease in flow.fill() if lease.replica.id == "a/0"]
    assert held
    flow.dispatcher.replicas(flow.found[1:])
    flow.dispatcher.replicas(flow.found)
    [group] = flow.dispatcher.snapshot().groups
    assert {r.id: r.in_flight for r in group.replicas}["a/0"] == len(held)
    for lease in held:
        lease.done(Result.OK, 20)
    [group] = flow.dispatcher.snapshot().groups
    assert {r.id: r.in_flight for r in group.replicas}["a/0"] == 0


def test_another_engine_of_the_same_name_starts_with_nothing() -> None:
    flow = Flow(flows.plan(flows.group("a", replicas=1)))
    held = flow.lease()
    flow.dispatcher.replicas([])
    flow.dispatcher.replicas([replace(flow.found[0], url="http://elsewhere")])
    [group] = flow.dispatcher.snapshot().groups
    assert [r.in_flight for r in group.replicas] == [0]
    held.done(Result.OK, 20)
    assert flow.dispatcher.in_flight == 0
