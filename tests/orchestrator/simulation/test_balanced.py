"""A balanced fleet takes each request where it disturbs least, and turns away what has no room."""

from __future__ import annotations

import numpy as np

from orchestrator.simulation.balanced import Balanced
from orchestrator.simulation.result import Outcome
from orchestrator.simulation.run import Conditions, simulate
from tests.orchestrator.autoscale import scenes
from tests.orchestrator.simulation.test_run import trace

TWO = scenes.plan({"a": 1.0, "b": 2.0}, speed={"b": 2.0})


def test_requests_are_spread_by_what_groups_can_have_in_hand():
    found = simulate(TWO, trace(np.arange(4000) * 0.02, 500, 100), router=Balanced(TWO))
    assert found.count(Outcome.OK) == 4000
    counts = np.bincount(found.group)
    assert 1.3 < counts[1] / counts[0] < 6.0


def test_who_finds_no_room_is_turned_away_at_once_and_the_rest_keep_the_slo():
    burst = trace(np.sort(np.concatenate([np.arange(500) * 0.1, 20 + np.arange(3000) * 0.001])))
    queued = simulate(TWO, burst, router=Balanced(TWO))
    shed = simulate(TWO, burst, router=Balanced(TWO, shed=1.0))
    assert queued.count(Outcome.OVERLOADED) == 0
    assert shed.count(Outcome.OVERLOADED) > 500
    assert shed.ttft_s[shed.outcome == Outcome.OK].max() < queued.ttft_s.max() / 2


def test_stock_bounds_what_an_autoscaler_can_have_and_is_told():
    refused = []

    def greedy(seen):
        refused.append(dict(seen.refused))
        return {"a": 5}

    conditions = Conditions(cold_start_s=10, stock={"a": 3})
    found = simulate(
        TWO,
        trace(np.arange(100) * 1.0),
        router=Balanced(TWO),
        autoscaler=greedy,
        conditions=conditions,
    )
    assert sum(r.group == "a" for r in found.replicas) == 3
    assert refused[0] == {}
    assert refused[1] == {"a": 2}


def test_an_autoscaler_sees_kv_use_and_queues_of_each_ready_replica():
    kept = []

    def watching(seen):
        kept.append(seen.groups["a"])
        return {}

    many = trace(np.linspace(0, 30, 3000), 900, 150)
    simulate(TWO, many, router=Balanced(TWO), autoscaler=watching)
    assert all(len(g.kv_used) == len(g.waiting) == g.ready == 1 for g in kept)
    assert 0 < kept[0].kv_used[0] <= 1
    assert max(g.waiting[0] for g in kept) > 0
