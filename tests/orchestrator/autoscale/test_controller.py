"""The controller keeps every limit, forgives missing sight, and can be started anew at any time."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.autoscale.controller import Controller, ScalePolicy
from orchestrator.simulation.events import Event
from orchestrator.simulation.run import Conditions, simulate
from profiler.arrivals import DiurnalArrivals
from profiler.errors import InputError, UnknownNameError
from profiler.generator import generate
from tests.orchestrator.autoscale import scenes

TWO = scenes.plan({"a": 1.0, "b": 2.5}, speed={"b": 2.0})
ONE = scenes.plan({"a": 1.0})


def each_rps(plan=ONE) -> float:
    """What one replica of the first group carries."""
    from orchestrator.autoscale.pools import pools_of

    return 1 / pools_of(plan)[0].load_s[0, 0]


def settled(controller, rps, fleet, turns=30, start_s=0.0):
    """Replicas wanted after a while, each wish fulfilled at once; and the time."""
    now_s = start_s
    for _ in range(turns):
        now_s += 20.0
        fleet = {**fleet, **controller(scenes.moment(now_s, rps, fleet))}
    return fleet, now_s


def test_replicas_follow_the_load_up_and_down():
    controller = Controller(ONE)
    fleet, now_s = settled(controller, 3.2 * each_rps(), {"a": 1})
    assert 4 <= fleet["a"] <= 6
    fleet, now_s = settled(controller, 0.7 * each_rps(), fleet, 120, now_s)
    assert 1 <= fleet["a"] <= 2
    fleet, _ = settled(controller, 0.0, fleet, 400, now_s)
    assert fleet["a"] == 0


rates = st.lists(st.none() | st.floats(0, 60), min_size=1, max_size=25)


@settings(deadline=None, max_examples=25)
@given(rates, st.integers(0, 2), st.integers(2, 5), st.floats(4, 20))
def test_limits_are_kept_whatever_comes(loads, least, most, budget):
    policy = ScalePolicy(
        minimum={"a": least}, maximum={"a": most, "b": 4}, budget_usd_per_hour=budget
    )
    controller = Controller(TWO, policy)
    fleet, now_s = {"a": least, "b": 0}, 0.0
    for rps in loads:
        now_s += 20
        fleet = controller(scenes.moment(now_s, rps, fleet))
        assert least <= fleet["a"] <= most
        assert 0 <= fleet["b"] <= 4
        assert fleet["a"] * 1.0 + fleet["b"] * 2.5 <= max(budget, least * 1.0) + 1e-9


@settings(deadline=None, max_examples=20)
@given(st.lists(st.floats(0, 60), max_size=20), st.integers(0, 9), st.integers(0, 9))
def test_nothing_is_stopped_while_the_load_is_not_known(loads, a, b):
    controller = Controller(TWO)
    fleet, now_s = {"a": a, "b": b}, 0.0
    for rps in loads:
        now_s += 20
        fleet = controller(scenes.moment(now_s, rps, fleet))
    wanted = controller(scenes.moment(now_s + 20, None, fleet))
    assert all(wanted[n] >= fleet[n] for n in fleet)


def one_by_one(controller, requests, cold_s, turns):
    """Replicas wanted at each turn of a fleet without any, with requests at some of them."""
    starts, ready, wanted = [], 0, []
    for k in range(1, turns + 1):
        now_s = 20.0 * k
        ready += sum(s <= now_s for s in starts)
        starts = [s for s in starts if s > now_s]
        rps = requests.get(k, 0) / 20.0
        fleet = {"a": (ready, len(starts)), "b": 0}
        wanted.append(controller(scenes.moment(now_s, rps, fleet)))
        more = wanted[-1]["a"] - ready - len(starts)
        starts += [now_s + cold_s] * more
        if more < 0:
            starts, ready = [], wanted[-1]["a"]
    return wanted


def test_the_first_request_wakes_a_model_and_its_replica_stays_as_long_as_its_start_took():
    told = []
    policy = ScalePolicy(cold_start_s=100, warm_up_s=0)
    controller = Controller(TWO, policy, told=told.append)
    wanted = one_by_one(controller, {10: 1}, 100.0, 40)
    counts = [w["a"] + w["b"] for w in wanted]
    assert counts[:9] == [0] * 9
    assert counts[9:19] == [1] * 10  # five turns until it is ready, and five more
    assert counts[22:] == [0] * 18
    assert "asked for and has no replica" in told[0].line()


def test_who_asks_again_when_it_is_ready_keeps_it():
    wanted = one_by_one(
        Controller(TWO, ScalePolicy(cold_start_s=100, warm_up_s=0)), {10: 1, 16: 1, 20: 1}, 100, 24
    )
    assert all(w["a"] == 1 for w in wanted[9:])


def test_nothing_is_woken_beyond_a_limit():
    for policy in (
        ScalePolicy(budget_usd_per_hour=0.5, warm_up_s=0),
        ScalePolicy(maximum={"a": 0, "b": 0}, warm_up_s=0),
    ):
        wanted = one_by_one(Controller(TWO, policy), {3: 1}, 100.0, 8)
        assert all(w == {"a": 0, "b": 0} for w in wanted)


def test_a_group_that_cannot_be_seen_is_left_alone_and_its_pool_stops_nothing():
    controller = Controller(TWO)
    _, now_s = settled(controller, 0.5, {"a": 4, "b": 0})
    wanted = controller(scenes.moment(now_s + 20, 0.0, {"a": 4}))
    assert wanted["a"] >= 4
    assert "b" not in wanted


def test_after_a_start_nothing_is_stopped_until_load_was_seen():
    controller = Controller(ONE, ScalePolicy(warm_up_s=120))
    fleet, now_s = settled(controller, 0.0, {"a": 5}, turns=5)
    assert fleet["a"] == 5
    fleet, _ = settled(controller, 0.0, fleet, 5, now_s)
    assert fleet["a"] < 5


@settings(deadline=None, max_examples=10)
@given(st.lists(st.floats(0, 40), min_size=8, max_size=30), st.floats(0, 40))
def test_started_from_its_state_it_wishes_the_same(loads, last):
    one, fleet, now_s = Controller(TWO), {"a": 1, "b": 1}, 0.0
    for rps in loads:
        now_s += 20
        fleet = one(scenes.moment(now_s, rps, fleet))
    other = Controller(TWO)
    other.restore(json.loads(json.dumps(one.state())))
    seen = scenes.moment(now_s + 20, last, fleet)
    assert one(seen) == other(seen)


def test_started_from_the_fleet_alone_it_comes_to_the_same_size():
    load = 3.2 * each_rps()
    old, now_s = settled(Controller(ONE), load, {"a": 1}, 200)
    new, _ = settled(Controller(ONE), load, old, 200, now_s)
    assert abs(new["a"] - old["a"]) <= 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 1}', '{"version": 1, "season": 3}'])
def test_a_damaged_state_is_refused_and_changes_nothing(tmp_path, text):
    path = tmp_path / "state.json"
    path.write_text(text)
    controller = Controller(ONE)
    before = controller.state()
    with pytest.raises(InputError, match=r"state\.json"):
        controller.load(path)
    assert controller.state() == before


def test_a_group_out_of_stock_is_replaced_and_asked_for_again_later():
    controller = Controller(TWO, ScalePolicy(cold_start_s=60))
    load = 6 * each_rps()
    fleet, now_s = settled(controller, load, {"a": 6, "b": 0})
    assert fleet["a"] >= 6
    now_s += 20
    wanted = controller(scenes.moment(now_s, 2 * load, {"a": 6, "b": 0}, refused={"a": 3}))
    assert wanted["a"] == 6
    assert wanted["b"] > 0
    now_s += 70
    later = controller(scenes.moment(now_s, 2 * load, {"a": 6, "b": 0}))
    assert later["a"] > 6


def test_the_old_stays_until_what_replaces_it_is_there():
    controller = Controller(TWO)
    settled(controller, 2 * each_rps(), {"a": 3, "b": 0})
    fleet = {"a": (0, 3), "b": 4}
    wanted = controller(scenes.moment(700.0, 2 * each_rps(), fleet))
    assert wanted["b"] == 4


def test_each_change_is_told_with_its_money():
    told = []
    controller = Controller(ONE, told=told.append)
    settled(controller, 4 * each_rps(), {"a": 1}, 10)
    first = told[0]
    assert (first.group, first.before) == ("a", 1)
    assert first.after > 1
    assert first.saving_usd > 0
    assert first.forecast_rps == pytest.approx(4 * each_rps(), rel=0.3)
    assert "misses would cost more" in first.line()


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (ScalePolicy(minimum={"a": 3}, maximum={"a": 2}), "at least 3 and at most 2"),
        (ScalePolicy(minimum={"a": -1}), "-1 replicas"),
        (ScalePolicy(miss_worth=0), "miss_worth 0"),
        (ScalePolicy(budget_usd_per_hour=-1), "-1"),
        (ScalePolicy(cold_start_s=0), "cold starts"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(policy, words):
    with pytest.raises(InputError, match=words):
        Controller(ONE, policy)


def test_a_policy_for_an_unknown_group_is_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'a'"):
        Controller(ONE, ScalePolicy(minimum={"A": 1}))


DAY = 3600.0


def day(seed=0):
    rate_rps = 3 * each_rps()
    arrivals = DiurnalArrivals(rate_rps=rate_rps, amplitude=0.8, period_s=DAY, peak_s=DAY / 2)
    return generate(arrivals, "azure-chat", DAY, seed=seed)


@pytest.mark.slow
def test_a_simulated_day_costs_far_less_than_its_peak_and_few_requests_miss():
    trace = day()
    plan = ONE.model_copy(update={"groups": (ONE.groups[0].model_copy(update={"replicas": 2}),)})
    controller = Controller(plan, ScalePolicy(cold_start_s=60, shedding=False))
    found = simulate(plan, trace, autoscaler=controller, interval_s=20, conditions=Conditions(60.0))
    good = (found.ttft_s <= 2) & ~(found.tpot_s > 0.06)
    assert good.mean() > 0.9
    peak = 3 * 1.8 * each_rps() / each_rps()
    assert found.replica_seconds["a"] < 0.85 * 1.2 * peak * DAY


def test_a_reclaimed_replica_is_replaced():
    trace = day()
    three = ONE.model_copy(update={"groups": (ONE.groups[0].model_copy(update={"replicas": 6}),)})
    controller = Controller(three, ScalePolicy(cold_start_s=60, minimum={"a": 6}))
    found = simulate(
        three,
        trace,
        events=[Event(1000.0, "reclaim", "a")],
        autoscaler=controller,
        interval_s=20,
        conditions=Conditions(cold_start_s=60.0, replace=False),
    )
    started = sorted(r.started_s for r in found.replicas if r.started_s > 0)
    assert any(1000 <= s <= 1020 for s in started)
    assert np.isfinite(found.end_s)
