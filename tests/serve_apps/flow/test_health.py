"""Engines that fail or hang get nothing more, and are back soon after they have recovered."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from serve_apps.flow.nouns import Lease, Refused, Result, Wait
from tests.serve_apps.flow import flows
from tests.serve_apps.flow.flows import Flow


def pair(**kwargs: int) -> Flow:
    return Flow(flows.plan(flows.group(replicas=2, **kwargs)))


def answer(lease: Lease) -> None:
    lease.first_byte()
    lease.done(Result.OK, 20)


def test_clients_errors_never_eject_an_engine() -> None:
    flow = pair()
    for _ in range(100):
        flow.lease().done(Result.CLIENT_ERROR)
    assert flow.dispatcher.snapshot().groups[0].states == {"open": 2}


def test_a_client_that_leaves_says_nothing_about_the_engine() -> None:
    flow = pair()
    for _ in range(100):
        flow.lease().done(Result.CANCELLED)
    assert flow.dispatcher.snapshot().groups[0].states == {"open": 2}


def test_a_dead_engine_that_fails_fast_is_no_magnet() -> None:
    flow = pair()
    sent: Counter[str] = Counter()
    for _ in range(200):
        flow.now += 0.01
        lease = flow.lease()
        sent[lease.replica.id] += 1
        if lease.replica.id == "a/0":
            lease.done(Result.UNREACHABLE)
        else:
            answer(lease)
    assert sent["a/0"] == 1


@pytest.mark.parametrize("result", [Result.ENGINE_ERROR, Result.CUT])
def test_several_failures_in_a_row_eject_but_not_the_last_engine(result: Result) -> None:
    flow = pair()
    for _ in range(20):
        flow.lease().done(result)
    assert flow.dispatcher.snapshot().groups[0].states == {"open": 1, "ejected": 1}


def test_failures_between_successes_do_not_eject() -> None:
    flow = Flow(flows.plan(flows.group(replicas=2)))
    for k in range(60):
        lease = flow.lease()
        lease.done(Result.ENGINE_ERROR if k % 3 == 0 else Result.OK)
    assert flow.dispatcher.snapshot().groups[0].states == {"open": 2}


def test_an_engine_is_not_late_by_the_time_in_which_nobody_looked() -> None:
    flow = pair()
    flow.lease()
    flow.now += 5.0
    flow.dispatcher.stalled(5.0)
    assert flow.dispatcher.due_probes() == []
    flow.now += 5.0
    assert len(flow.dispatcher.due_probes()) == 1


@pytest.mark.parametrize(("stalled", "learns"), [(False, True), (True, False)])
def test_nothing_is_learnt_of_its_pace_by_who_did_not_look(stalled: bool, learns: bool) -> None:
    flow = pair()
    lease = flow.lease(stream=True)
    flow.now += 5.0
    if stalled:
        flow.dispatcher.stalled(5.0)
    answer(lease)
    [engine] = [
        e for e in flow.dispatcher.snapshot().groups[0].replicas if e.id == lease.replica.id
    ]
    assert (engine.ttft_ratio > 1.0) == learns


@dataclass
class Hang:
    """Requests to two engines of which one stops answering at once; as the gateway would, those
    that run out of patience are tried again elsewhere.
    """

    flow: Flow
    service_s: float
    stuck: list[Lease] = field(default_factory=list)
    working: list[tuple[float, Lease]] = field(default_factory=list)
    met: int = 0
    """Tries on the engine that hangs."""
    failed: int = 0
    slowest_s: float = 0.0

    def send(self, lease: Lease | None) -> None:
        if lease is None:
            self.failed += 1
        elif lease.replica.id == "a/0":
            self.met += 1
            self.stuck.append(lease)
        else:
            self.working.append((self.flow.now + self.service_s, lease))

    def pass_time(self, seconds: float) -> None:
        self.flow.now += seconds
        now = self.flow.now
        for due_s, lease in [w for w in self.working if w[0] <= now]:
            self.working.remove((due_s, lease))
            self.slowest_s = max(self.slowest_s, now - lease.task.arrived_s)
            answer(lease)
        for lease in [x for x in self.stuck if now - x.dispatched_s >= x.patience_s]:
            self.stuck.remove(lease)
            lease.done(Result.TIMEOUT)
            self.send(self.flow.dispatcher.retry(lease))


@pytest.mark.parametrize(("period_s", "service_s"), [(0.025, 0.02), (0.025, 0.1), (0.1, 0.2)])
def test_an_engine_that_hangs_gets_hardly_anything_and_nobody_waits_for_it(
    period_s: float, service_s: float
) -> None:
    hang = Hang(pair(), service_s)
    for _ in range(80):
        hang.pass_time(period_s)
        hang.send(hang.flow.lease())
    while hang.stuck or hang.working:
        hang.pass_time(period_s)
    assert hang.met <= 2
    assert hang.failed == 0
    assert hang.slowest_s < 2.0


def test_a_hanging_engine_is_probed_and_ejected_when_the_probe_fails() -> None:
    flow = pair()
    held = flow.lease()
    flow.now += held.patience_s + 0.01
    assert [r.id for r in flow.dispatcher.due_probes()] == [held.replica.id]
    flow.dispatcher.probed(held.replica, False)
    assert flow.dispatcher.snapshot().groups[0].states == {"open": 1, "ejected": 1}


def test_a_hanging_engine_is_used_where_there_is_no_other() -> None:
    flow = Flow(flows.plan(flows.group(replicas=1)))
    flow.lease()
    flow.now += 60.0
    assert flow.dispatcher.snapshot().groups[0].states == {"hanging": 1}
    assert isinstance(flow.ask(), Lease)


def test_a_byte_clears_suspicion() -> None:
    flow = pair()
    held = flow.lease()
    flow.now += 60.0
    held.progress()
    assert flow.dispatcher.snapshot().groups[0].states == {"open": 2}


def all_dead(flow: Flow) -> None:
    while isinstance(lease := flow.ask(), Lease):
        lease.done(Result.UNREACHABLE)
    assert isinstance(lease, Refused)
    assert lease.kind == "unavailable"


def test_no_engine_left_is_said_at_once_and_probing_goes_on() -> None:
    flow = pair()
    all_dead(flow)
    probes = 0
    for _ in range(100):
        flow.now += 0.05
        probes += len(flow.probe(a=False))
        assert isinstance(flow.ask(), Refused)
    assert probes == pytest.approx(2 * 5.0 / 0.25, rel=0.25)


def test_a_healed_engine_is_back_within_a_second() -> None:
    flow = pair()
    all_dead(flow)
    for _ in range(40):
        flow.now += 0.05
        flow.probe(a=False)
    healed_s = flow.now
    while isinstance(flow.ask(), Refused):
        flow.now += 0.05
        flow.probe()
    assert flow.now - healed_s <= 1.0


def test_an_engine_that_is_well_but_fails_is_probed_less_often_but_within_a_second() -> None:
    flow = pair(max_num_seqs=1)
    busy = [flow.lease(), flow.lease()]  # the second stays so, and the first always fails
    busy[0].done(Result.ENGINE_ERROR)
    found: list[float] = []
    for _ in range(1000):
        flow.now += 0.01
        busy[1].progress()
        found += [flow.now] * flow.probe().count(busy[0].replica.id)
        tried = flow.ask()
        if isinstance(tried, Lease):
            assert tried.replica == busy[0].replica
            tried.done(Result.ENGINE_ERROR)
        elif isinstance(tried, Wait):
            tried.cancel()
    gaps = [b - a for a, b in pairwise(found)]
    assert 0.5 < max(gaps) < 1.0


def test_a_recovered_engine_starts_slowly() -> None:
    flow = pair(max_num_seqs=64)
    dead = flow.lease()
    dead.done(Result.UNREACHABLE)
    flow.now += 0.1
    flow.probe()
    back = [x for x in (flow.lease() for _ in range(10)) if x.replica == dead.replica]
    assert len(back) == 1
    answer(back[0])
    more = [x for x in (flow.lease() for _ in range(10)) if x.replica == dead.replica]
    assert len(more) == 2


def test_a_dead_engines_traffic_spills_to_another_group_of_the_class() -> None:
    flow = Flow(flows.plan(flows.group("a", replicas=1), flows.group("b", "m2", replicas=1)))
    for _ in range(10):
        lease = flow.lease()
        if lease.replica.group == "a":
            lease.done(Result.UNREACHABLE)
        else:
            answer(lease)
    assert {flow.lease().replica.group for _ in range(4)} == {"b"}
