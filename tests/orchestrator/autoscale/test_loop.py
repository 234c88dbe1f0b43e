"""The loop acts as the controller wishes, and survives whatever its surroundings do."""

from __future__ import annotations

import json

from orchestrator.autoscale.controller import Controller
from orchestrator.autoscale.loop import Loop, OutOfStockError
from orchestrator.simulation.events import GroupState
from profiler.errors import ClusterError
from tests.orchestrator.autoscale import scenes
from tests.orchestrator.autoscale.test_controller import ONE, TWO, each_rps


class Fleet:
    """A fleet whose wishes come true at once, and a meter of a steady load."""

    def __init__(self, replicas, rps, plan=ONE):
        self.replicas, self.rps = dict(replicas), rps
        self.now_s, self.calls, self.fails = 1000.0, [], set()
        self.stock = {}
        self.plan = plan

    def clock(self):
        return self.now_s

    def current(self):
        if "current" in self.fails:
            raise ClusterError("no route to the cluster")
        return {n: GroupState(c, 0, 0, 0, 0) for n, c in self.replicas.items()}

    def set(self, group, replicas):
        if "set" in self.fails:
            raise ClusterError("forbidden")
        self.calls.append((group, replicas))
        had = min(replicas, self.stock.get(group, replicas))
        self.replicas[group] = had
        if had < replicas:
            raise OutOfStockError(group, replicas - had)

    def arrivals(self):
        if "arrivals" in self.fails:
            raise ClusterError("no metrics")
        return {scenes.KEY: round(self.rps * 20)}


def looped(fleet, **kwargs):
    said = []
    loop = Loop(Controller(fleet.plan), fleet, fleet, fleet.clock, said.append, **kwargs)
    loop.start()
    return loop, said


def turns(loop, fleet, count):
    for _ in range(count):
        fleet.now_s += 20
        loop.turn()


def test_the_fleet_grows_with_the_load_and_shrinks_again():
    fleet = Fleet({"a": 1}, 4 * each_rps())
    loop, _ = looped(fleet)
    turns(loop, fleet, 10)
    assert fleet.replicas["a"] >= 4
    fleet.rps = 0.0
    turns(loop, fleet, 200)
    assert fleet.replicas["a"] == 0


def test_without_metrics_nothing_is_stopped():
    fleet = Fleet({"a": 9}, 0.5 * each_rps())
    loop, said = looped(fleet)
    fleet.fails = {"arrivals"}
    turns(loop, fleet, 40)
    assert fleet.replicas["a"] == 9
    assert "nothing is stopped: no metrics" in said[-1]


def test_without_sight_of_the_fleet_nothing_is_done():
    fleet = Fleet({"a": 1}, 9 * each_rps())
    loop, said = looped(fleet)
    fleet.fails = {"current"}
    turns(loop, fleet, 5)
    assert fleet.calls == []
    assert "cannot be seen" in said[-1]
    fleet.fails = set()
    turns(loop, fleet, 5)
    assert fleet.replicas["a"] >= 9


def test_a_refused_change_ends_the_turn():
    fleet = Fleet({"a": 1}, 9 * each_rps())
    loop, said = looped(fleet)
    fleet.fails = {"set"}
    turns(loop, fleet, 3)
    assert fleet.replicas["a"] == 1
    assert "forbidden" in said[-1]


def test_what_is_out_of_stock_is_made_up_for_by_another_type():
    fleet = Fleet({"a": 1, "b": 0}, 6 * each_rps(), TWO)
    fleet.stock = {"a": 2}
    loop, said = looped(fleet)
    turns(loop, fleet, 10)
    assert fleet.replicas["a"] <= 2
    assert fleet.replicas["b"] >= 2
    assert any("fewer can be had" in s for s in said)


def test_a_clock_that_is_set_back_costs_one_turn():
    fleet = Fleet({"a": 1}, 9 * each_rps())
    fleet.now_s = 100_000.0
    loop, _ = looped(fleet)
    fleet.now_s -= 3600
    turns(loop, fleet, 5)
    assert fleet.replicas["a"] >= 9


def test_a_dry_run_changes_nothing():
    fleet = Fleet({"a": 1}, 9 * each_rps())
    loop, _ = looped(fleet, dry_run=True)
    turns(loop, fleet, 5)
    assert fleet.calls == []


def test_what_was_learned_outlives_a_crash_and_a_damaged_file_is_kept(tmp_path):
    path = tmp_path / "state.json"
    fleet = Fleet({"a": 1}, 4 * each_rps())
    loop, _ = looped(fleet, state_file=path)
    turns(loop, fleet, 31)
    assert json.loads(path.read_text())["version"] == 1
    again, said = looped(fleet, state_file=path)
    assert said == []
    turns(again, fleet, 3)
    assert fleet.replicas["a"] >= 4
    path.write_text("{")
    broken, said = looped(fleet, state_file=path)
    turns(broken, fleet, 40)
    broken.save()
    assert "learning anew" in said[0]
    assert path.read_text() == "{"
