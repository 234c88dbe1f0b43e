"""Each baseline follows its published rule."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.autoscale.baselines.clairvoyant import Clairvoyant
from orchestrator.autoscale.baselines.concurrency import Knative, RayServe
from orchestrator.autoscale.baselines.fixed import Fixed, cheapest
from orchestrator.autoscale.baselines.floor import ForecastFloor
from orchestrator.autoscale.baselines.saturation import Saturation
from orchestrator.simulation.events import GroupState, Observation
from tests.orchestrator.autoscale.test_pools import pool


def seen(time_s, ready=1, in_flight=0, starting=0, kv=0.0, waiting=0, name="a", arrivals=None):
    group = GroupState(ready, starting, 0, in_flight, 0, (kv,) * ready, (waiting,) * ready)
    return Observation(time_s, 10.0, {name: group}, arrivals or {})


def test_ray_serve_moves_up_after_thirty_seconds_and_down_after_six_hundred():
    rule = RayServe({"a": 2.0})
    wanted = [rule(seen(t, 1, 8))["a"] for t in range(10, 60, 10)]
    assert wanted == [1, 1, 1, 4, 1]
    rule = RayServe({"a": 2.0})
    wanted = [rule(seen(t, 4, 2))["a"] for t in range(10, 640, 10)]
    assert wanted.index(1) == 60


def test_knative_averages_a_minute_and_panics_at_twice():
    rule = Knative({"a": 10.0})
    calm = [rule(seen(t, 2, 20))["a"] for t in range(2, 62, 2)]
    assert set(calm) == {2}
    burst = [rule(seen(62 + t, 2, 80))["a"] for t in range(0, 8, 2)]
    assert burst[-1] == 8
    # never down while it panics, and by half at a time after
    after = [rule(seen(70 + t, 8, 0))["a"] for t in range(0, 58, 2)]
    assert set(after) == {8}
    later = [rule(seen(130 + t, 8, 0))["a"] for t in range(0, 30, 2)]
    assert later[-1] == 4


def wva(*states):
    rule = Saturation({"cheap": 1.0, "dear": 3.0})
    wanted = {}
    for time_s, cheap, dear in states:
        now = {"cheap": GroupState(*cheap), "dear": GroupState(*dear)}
        wanted = rule(Observation(time_s, 30.0, now, {}))
    return wanted


def state(count, kv, queue=0, starting=0):
    return count, starting, 0, 0, 0, (kv,) * count, (queue,) * count


def test_wva_adds_the_cheapest_that_does_not_start_and_drops_the_dearest():
    assert wva((30, state(1, 0.75), state(1, 0.75))) == {"cheap": 2}
    assert wva((30, state(1, 0.75, 0, 1), state(1, 0.75))) == {"dear": 2}
    assert wva((30, state(1, 0.1, 3), state(1, 0.1, 3))) == {"cheap": 2}
    assert wva((30, state(2, 0.1), state(1, 0.1))) == {"dear": 0}


def test_wva_keeps_what_the_others_could_not_take_over_and_the_last():
    assert wva((30, state(1, 0.5), state(1, 0.5))) == {}
    assert wva((30, state(1, 0.0), state(0, 0.0))) == {}


def test_wva_goes_by_the_maximum_of_a_minute():
    before, now, other = state(1, 0.69), state(1, 0.1), state(1, 0.5)
    assert wva((0, now, other), (30, now, other)) == {"dear": 0}
    assert wva((0, before, other), (30, now, other)) == {}


def test_the_cheapest_fleet_is_the_cheapest():
    two = pool([[1.0, 0.25]], usd=[1.0, 3.0])
    assert cheapest(two, np.ones(1), 0.75 * 5.0).tolist() == [1, 1]
    assert cheapest(two, np.ones(1), 0.75 * 0.9).tolist() == [1, 0]


def test_a_forecast_sets_a_floor_that_the_reaction_stays_above():
    one = pool([[1.0]])
    rule = ForecastFloor(one, {"g0": 4.0}, utilisation=1.0)
    key = one.classes[0]
    wanted = {}
    for k in range(1, 19):
        wanted = rule(seen(k * 10.0, 1, 0, name="g0", arrivals={key: 50}))
    assert wanted["g0"] >= 5
    busy = rule(seen(200.0, 6, 30, name="g0", arrivals={key: 50}))
    assert busy == {"g0": 7}
    idle = rule(seen(220.0, 6, 0, name="g0", arrivals={key: 50}))
    assert idle == {"g0": 6} or idle["g0"] >= 5


def test_the_clairvoyant_asks_one_cold_start_ahead_and_sits_out_short_lulls():
    one = pool([[1.0]])
    rates = np.ones((100, 1))
    rates[50:60] = 3.0
    rates[62:70] = 3.0
    rule = Clairvoyant(one, rates, 10.0, 100.0, miss_worth=50.0)
    wanted = {t: rule(seen(t, name="g0"))["g0"] for t in range(0, 1000, 10)}
    assert rule.first == {"g0": 1}
    assert wanted[300] == 1
    assert wanted[400] == wanted[500] == wanted[600] == wanted[610] == 3
    assert wanted[900] == 1


def test_a_clairvoyant_for_whom_misses_are_cheap_serves_less():
    one = pool([[1.0]])
    rates = np.ones((100, 1))
    rates[50:53] = 9.0
    rule = Clairvoyant(one, rates, 10.0, 100.0, miss_worth=1.5)
    assert max(rule(seen(t, name="g0"))["g0"] for t in range(0, 1000, 10)) == 1


def test_a_fixed_fleet_is_fixed():
    assert Fixed({"a": 3})(seen(10.0)) == {"a": 3}
    assert Fixed({"b": 3})(seen(10.0)) == pytest.approx({})
