"""A simulated fleet treats every request as the production data plane would."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.simulation.events import Event, spot_reclaims
from orchestrator.simulation.result import Outcome
from orchestrator.simulation.run import Conditions, simulate
from orchestrator.simulator import attainment, simulate_group
from profiler.errors import InputError, UnknownNameError
from serve_apps.router.base import Decision
from serve_apps.router.table import RouteTable
from tests import builders, plan_builders

LAW = builders.step_time(0.01, 1e-4, 1e-4, 1e-6)


def trace(arrival_s, inputs=100, outputs=20):
    size = len(arrival_s)
    return SimpleNamespace(
        arrival_s=np.asarray(arrival_s, dtype=float),
        input_tokens=np.broadcast_to(inputs, size),
        output_tokens=np.broadcast_to(outputs, size),
    )


def group(name="a", replicas=1, max_num_seqs=8, max_model_len=2048, model="m1"):
    profile = builders.profile(
        model, "cpu", law=LAW, max_model_len=max_model_len, max_num_seqs=max_num_seqs
    )
    made = plan_builders.group(name, model, replicas=replicas)
    return made.model_copy(update={"profile": profile})


def plan(*groups, shares=None):
    groups = groups or (group(),)
    shares = shares or {groups[0].name: 1.0}
    return plan_builders.plan(groups, (plan_builders.route(shares),))


def steady(count=200, gap_s=0.05, seed=1):
    rng = np.random.default_rng(seed)
    return trace(
        np.cumsum(rng.exponential(gap_s, count)),
        rng.integers(1, 300, count),
        rng.integers(1, 100, count),
    )


def ends(found) -> dict[Outcome, int]:
    return {o: found.count(o) for o in Outcome if found.count(o)}


class ByTurns:
    """A router of one's own: the groups in turn, whatever the request."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.calls = 0

    def route(self, request, avoid=()):
        self.calls += 1
        return Decision(self.names[self.calls % len(self.names)], request.model, "its turn")


def test_each_group_works_as_it_would_alone():
    load = steady()
    both = plan(group("a", 2), group("b", 1), shares={"a": 0.7, "b": 0.3})
    found = simulate(both, load, conditions=Conditions(queue_factor=float("inf")))
    for g, replicas in enumerate((2, 1)):
        mine = found.group == g
        alone = simulate_group(
            both.groups[g].profile,
            replicas,
            load.arrival_s[mine],
            load.input_tokens[mine],
            load.output_tokens[mine],
        )
        np.testing.assert_allclose(found.finish_s[mine], alone.finish_s, rtol=0, atol=1e-8)
    assert np.bincount(found.group).tolist() == [140, 60]


def test_the_plans_table_asked_one_by_one_gives_the_same():
    both = plan(group("a", 2), group("b", 1), shares={"a": 0.7, "b": 0.3})
    dealt, asked = simulate(both, steady()), simulate(both, steady(), router=RouteTable(both))
    np.testing.assert_array_equal(dealt.finish_s, asked.finish_s)
    np.testing.assert_array_equal(dealt.replica, asked.replica)


def test_any_router_plugs_in():
    found = simulate(plan(group("a"), group("b")), steady(), router=ByTurns("a", "b"))
    assert found.group.tolist() == [1, 0] * 100


def test_a_router_may_watch_the_fleet():
    class Emptiest(ByTurns):
        def watch(self, fleet):
            self.fleet = fleet

        def route(self, request, avoid=()):
            in_flight = {n: self.fleet.group(n).in_flight for n in self.names}
            assert self.fleet.now_s == request_times[self.calls]
            self.calls += 1
            return Decision(min(in_flight, key=in_flight.__getitem__), request.model, "emptiest")

    request_times = [0.0, 0.001, 0.002, 0.003]
    found = simulate(plan(group("a"), group("b")), trace(request_times), router=Emptiest("a", "b"))
    assert found.group.tolist() == [0, 1, 0, 1]


def test_streams_are_merged_by_time_and_go_their_own_ways():
    both = plan_builders.plan(
        (group("a"), group("b", model="m2")),
        (plan_builders.route({"a": 1.0}, "m1"), plan_builders.route({"b": 1.0}, "m2")),
    )
    found = simulate(both, {"m2": trace([0.0, 2.0]), "m1": trace([1.0])})
    assert [found.streams[s] for s in found.stream] == ["m2", "m1", "m2"]
    assert found.group.tolist() == [1, 0, 1]
    with pytest.raises(InputError, match=r"2 streams.*say which stream"):
        simulate(both, trace([0.0]))


def test_no_requests_are_answered_by_an_idle_fleet():
    found = simulate(plan(), trace([]))
    assert len(found.outcome) == 0 and found.end_s == 0
    assert attainment(found, builders.slo()) == 1.0
    assert found.utilisation == {"a": 0.0}


def test_an_unknown_model_and_a_request_too_long_are_rejected():
    found = simulate(plan(), {"m9": trace([0.0]), "m1": trace([1.0, 2.0], [100, 3000])})
    assert found.outcome.tolist() == [Outcome.REJECTED, Outcome.OK, Outcome.REJECTED]
    assert attainment(found, builders.slo()) == pytest.approx(1 / 3)
    asked = simulate(plan(), {"m9": trace([0.0])}, router=RouteTable(plan()))
    assert ends(asked) == {Outcome.REJECTED: 1}


def test_overhead_outside_the_engine_is_the_groups_own():
    slow = group("b")
    slow = slow.model_copy(
        update={"profile": slow.profile.model_copy(update={"request_overhead_s": 0.5})}
    )
    found = simulate(plan(group("a"), slow), trace([0.0, 10.0]), router=ByTurns("a", "b"))
    assert found.ttft_s[0] - found.ttft_s[1] == pytest.approx(0.5)


def test_a_full_group_makes_wait_a_second_then_passes_on_to_another():
    tiny = group("a", max_num_seqs=1), group("b", max_num_seqs=1)  # two slots each
    load = trace([0.0] * 4, outputs=1000)
    found = simulate(plan(*tiny), load)
    assert found.group.tolist() == [0, 0, 1, 1]
    assert (found.ttft_s[2:] > 1.0).all() and found.ttft_s[0] < 1.0


def test_who_finds_every_slot_taken_for_a_minute_is_turned_away_with_429():
    found = simulate(plan(group(max_num_seqs=1)), trace([0.0] * 4, outputs=[1900] * 2 + [5] * 2))
    assert found.outcome.tolist() == [Outcome.OK] * 2 + [Outcome.OK] * 2
    slow = simulate(
        plan(group(max_num_seqs=1)), trace(np.zeros(30), outputs=1900)
    )  # some 25 s each
    assert ends(slow) == {Outcome.OK: 4, Outcome.OVERLOADED: 26}
    assert attainment(slow, builders.slo(1e9, 1e9)) == pytest.approx(4 / 30)


def test_those_that_wait_get_slots_in_order_of_arrival():
    found = simulate(plan(group(max_num_seqs=2)), steady(60, 0.01))
    assert ends(found) == {Outcome.OK: 60}
    assert (np.diff(found.first_token_s) >= 0).all()


def test_without_slots_to_run_out_of_nobody_waits_at_the_gateway():
    load = steady(100, 0.001)
    limited = simulate(plan(group(max_num_seqs=4)), load)
    unlimited = simulate(
        plan(group(max_num_seqs=4)), load, conditions=Conditions(queue_factor=float("inf"))
    )
    # The engine admits in order of arrival, and so does the queue before it.
    np.testing.assert_allclose(limited.finish_s, unlimited.finish_s, rtol=0, atol=1e-8)


def test_a_replica_that_dies_costs_those_without_a_token_a_retry_and_cuts_the_others():
    load = trace([0.0, 0.0, 0.9, 0.901], outputs=200)
    found = simulate(plan(group(replicas=2)), load, events=[Event(0.905, "die", "a", 0)])
    assert found.outcome.tolist() == [Outcome.CUT, Outcome.OK, Outcome.OK, Outcome.OK]
    assert found.losses.tolist() == [1, 0, 1, 0]
    assert found.replica.tolist() == [0, 1, 1, 1]
    assert np.isfinite(found.first_token_s[0]) and np.isinf(found.finish_s[0])
    assert found.ttft_s[2] > found.ttft_s[3]
    assert found.replicas[0].ended_s == 0.905
    assert attainment(found, builders.slo(10, 10)) == 0.75


def test_a_request_that_lost_two_replicas_is_given_up():
    events = [Event(0.005, "die", "a", 0), Event(0.008, "die", "a", 1)]
    found = simulate(plan(group(replicas=3)), trace([0.0, 5.0]), events=events)
    assert found.outcome.tolist() == [Outcome.UNAVAILABLE, Outcome.OK]
    assert found.losses.tolist() == [2, 0]


def test_a_group_without_replicas_is_passed_over_and_a_fleet_without_any_answers_503():
    events = [Event(1.0, "stop", "a"), Event(2.0, "stop", "b")]
    found = simulate(plan(group("a"), group("b")), trace([0.0, 1.5, 2.5]), events=events)
    assert found.outcome.tolist() == [Outcome.OK, Outcome.OK, Outcome.UNAVAILABLE]
    assert found.group[:2].tolist() == [0, 1]
    assert np.isinf(found.ttft_s[2])


def test_a_replica_that_stops_finishes_what_it_has_and_is_paid_until_then():
    load = trace([0.0, 0.1, 0.3], outputs=100)
    found = simulate(plan(group(replicas=2)), load, events=[Event(0.2, "stop", "a", 0)])
    assert ends(found) == {Outcome.OK: 3}
    assert found.replica.tolist() == [0, 1, 1]
    assert found.replicas[0].ended_s == pytest.approx(found.finish_s[0])
    assert found.replicas[1].ended_s == found.end_s


def test_one_that_takes_too_long_to_finish_is_ended():
    conditions = Conditions(drain_s=5.0)
    found = simulate(
        plan(), trace([0.0], outputs=1900), events=[Event(1.0, "stop", "a")], conditions=conditions
    )
    assert ends(found) == {Outcome.CUT: 1}


def test_a_dead_replica_is_replaced_after_a_cold_start():
    conditions = Conditions(cold_start_s={"a": 10.0})
    load = trace([0.0, 5.0, 15.0])
    found = simulate(plan(), load, events=[Event(2.0, "die", "a")], conditions=conditions)
    assert found.outcome.tolist() == [Outcome.OK, Outcome.UNAVAILABLE, Outcome.OK]
    assert [(r.started_s, r.ready_s) for r in found.replicas] == [(0.0, 0.0), (2.0, 12.0)]
    alone = simulate(
        plan(), load, events=[Event(2.0, "die", "a")], conditions=Conditions(replace=False)
    )
    assert alone.outcome.tolist()[1:] == [Outcome.UNAVAILABLE] * 2


def test_one_that_is_started_takes_requests_after_its_cold_start():
    conditions = Conditions(cold_start_s=10.0)
    load = trace([5.0, 5.0, 12.0, 12.0], outputs=50)
    found = simulate(plan(), load, events=[Event(1.0, "start", "a")], conditions=conditions)
    assert found.replica.tolist() == [0, 0, 0, 1]
    assert found.replica_seconds["a"] == pytest.approx(2 * found.end_s - 1.0)


def test_a_reclaimed_replica_takes_nothing_new_and_dies_when_its_notice_is_over():
    conditions = Conditions(replace=False, reclaim_notice_s=3.0)
    load = trace([0.0, 1.5, 2.0], outputs=[500, 10, 10])
    found = simulate(
        plan(group(replicas=2)), load, events=[Event(1.0, "reclaim", "a", 0)], conditions=conditions
    )
    assert found.outcome.tolist() == [Outcome.CUT, Outcome.OK, Outcome.OK]
    assert found.replica.tolist() == [0, 1, 1]
    assert found.replicas[0].ended_s == 4.0


def test_spot_replicas_are_reclaimed_at_random_the_same_for_the_same_seed():
    spot = group("b", replicas=4).model_copy(update={"market": "spot"})
    both = plan(group("a", 4), spot)
    events = spot_reclaims(both, per_replica_hour=0.5, duration_s=360_000.0, seed=1)
    assert events == spot_reclaims(both, 0.5, 360_000.0, seed=1)
    assert events != spot_reclaims(both, 0.5, 360_000.0, seed=2)
    assert len(events) == pytest.approx(200, rel=0.25)
    assert {(e.kind, e.group) for e in events} == {("reclaim", "b")}
    assert [e.time_s for e in events] == sorted(e.time_s for e in events)
    with pytest.raises(InputError, match="-1 reclaims an hour"):
        spot_reclaims(both, -1, 1.0)


def test_an_autoscaler_sees_the_fleet_and_resizes_it():
    seen = []

    def scaler(observation):
        seen.append(observation)
        return (
            {"a": 2} if observation.time_s == 10 else {"a": 1} if observation.time_s == 40 else {}
        )

    load = trace(np.arange(0.5, 60.0), outputs=[5] * 30 + [100] * 30)
    found = simulate(plan(), load, autoscaler=scaler, conditions=Conditions(cold_start_s=15.0))
    assert [o.time_s for o in seen] == [10, 20, 30, 40, 50]
    assert [(o.groups["a"].ready, o.groups["a"].starting) for o in seen] == [
        (1, 0), (1, 1), (2, 0), (2, 0), (1, 0),
    ]  # fmt: skip
    assert [sum(o.arrivals.values()) for o in seen] == [10] * 5
    assert [(r.started_s, r.ready_s) for r in found.replicas] == [(0.0, 0.0), (10.0, 25.0)]
    first, last = sorted(r.ended_s for r in found.replicas)
    assert 40 <= first < 42 and last == found.end_s
    assert found.replica_seconds["a"] == pytest.approx(first + last - 10.0)
    assert 0 < found.utilisation["a"] < 1


def test_arrivals_are_told_by_stream_and_bucket():
    seen = Counter()

    def scaler(observation):
        seen.update(observation.arrivals)
        return {}

    routes = (
        plan_builders.route({"a": 1.0}, inputs=(0, 100)),
        plan_builders.route({"a": 1.0}, inputs=(100, 1000)),
    )
    load = trace([0.0, 1.0, 2.0, 20.0], inputs=[50, 100, 101, 50])
    simulate(plan_builders.plan((group(),), routes), load, autoscaler=scaler)
    assert seen == {("auto", "in<=100,out<=1000"): 2, ("auto", "in<=1000,out<=1000"): 1}


def test_a_mistaken_event_or_answer_is_refused():
    with pytest.raises(UnknownNameError, match="group 'b'"):
        simulate(plan(), steady(5), events=[Event(0.0, "die", "b")])
    with pytest.raises(InputError, match="not had so many replicas"):
        simulate(plan(), steady(5), events=[Event(0.0, "die", "a", 3)])
    with pytest.raises(InputError, match="finite time"):
        simulate(plan(), steady(5), events=[Event(-1.0, "die", "a")])
    with pytest.raises(UnknownNameError, match="group 'z'"):
        simulate(plan(), steady(), autoscaler=lambda _: {"z": 1}, interval_s=1.0)
    with pytest.raises(InputError, match="-1 replicas wanted"):
        simulate(plan(), steady(), autoscaler=lambda _: {"a": -1}, interval_s=1.0)
    with pytest.raises(InputError, match="autoscaler's turns"):
        simulate(plan(), steady(), interval_s=0.0)


event = st.builds(
    Event,
    time_s=st.floats(0, 12),
    kind=st.sampled_from(["start", "stop", "die", "reclaim"]),
    group=st.sampled_from(["a", "b"]),
)


@given(st.lists(event, max_size=12), st.integers(0, 2**32 - 1), st.integers(1, 3), st.booleans())
@settings(max_examples=25)
def test_whatever_happens_every_request_ends_once_and_replicas_live_within_bounds(
    events, seed, seqs, replace
):
    fleet = plan(
        group("a", 2, max_num_seqs=seqs), group("b", max_num_seqs=seqs), shares={"a": 0.6, "b": 0.4}
    )
    load = steady(150, 0.06, seed)
    conditions = Conditions(cold_start_s=2.0, reclaim_notice_s=1.0, replace=replace)

    def scaler(observation):
        return {"b": seed // (1 + int(observation.time_s)) % 3}

    calls = [
        simulate(
            fleet, load, events=events, autoscaler=scaler, interval_s=3.0, conditions=conditions
        )
        for _ in range(2)
    ]
    found = calls[0]
    np.testing.assert_array_equal(found.finish_s, calls[1].finish_s)
    assert sum(found.count(o) for o in Outcome) == 150
    assert found.count(Outcome.PENDING) == 0
    ok = found.outcome == Outcome.OK
    assert (np.isfinite(found.finish_s) == ok).all()
    assert (found.rejected == ~ok).all()
    assert (found.ttft_s[ok] > 0).all() and (found.e2e_s >= found.ttft_s)[ok].all()
    for i in np.flatnonzero(ok):
        life = found.replicas[found.replica[i]]
        assert life.group == found.groups[found.group[i]]
        assert life.ready_s <= found.first_token_s[i] <= found.finish_s[i]
        assert found.finish_s[i] <= life.ended_s + 1e-9
    for life in found.replicas:
        assert life.started_s <= life.ended_s
        assert 0 <= life.busy_s <= max(0.0, life.ended_s - life.ready_s) + 1e-9
        assert life.utilisation <= 1 + 1e-9
