"""An autoscaler goes on with whichever plan of its service runs."""

from __future__ import annotations

import pytest

from orchestrator import autoscale_targets
from orchestrator.autoscale.policy import ScalePolicy
from orchestrator.autoscale.session import Session, reached, replanned_path, within
from orchestrator.autoscale_targets import Target
from profiler import documents
from profiler.errors import ClusterError
from tests.orchestrator.autoscale import scenes
from tests.orchestrator.autoscale.test_controller import ONE, each_rps
from tests.orchestrator.autoscale.test_loop import Fleet

OTHER = scenes.plan({"c": 0.4})


class Once:
    """A replanner whose plan comes in force at one turn."""

    def __init__(self, at_turn, place):
        self.plan, self._at, self._place, self.seen = ONE, at_turn, place, []

    def turn(self, standings, _now_s):
        self.seen.append(standings)
        if len(self.seen) != self._at:
            return None
        self.plan = OTHER
        return self._place

    def close(self):
        pass


def session(fleet, replanner=None, **more):
    policy = ScalePolicy(minimum={"a": 1})
    told = []
    place = Target(fleet, fleet)
    made = Session(ONE, place, policy, told.append, print, clock=fleet.clock, **more)
    made.replanner = replanner
    made.start()
    return made, told


def turns(made, fleets, count):
    for _ in range(count):
        for fleet in fleets:
            fleet.now_s += 20
        made.turn()


def test_when_another_plan_comes_in_force_its_groups_are_scaled():
    here = Fleet({"a": 4}, 4 * each_rps())
    there = Fleet({"c": 1}, 4 * each_rps(), OTHER)
    made, _ = session(here, Once(10, Target(there, there)))
    turns(made, (here, there), 30)
    assert there.replicas["c"] >= 4
    before = len(here.calls)
    turns(made, (here, there), 10)
    assert len(here.calls) == before


def test_what_the_load_costs_is_told_once_it_was_seen_for_a_while():
    fleet = Fleet({"a": 4}, 4 * each_rps())
    replanner = Once(99, None)
    made, _ = session(fleet, replanner)
    turns(made, (fleet,), 30)
    assert replanner.seen[0] == ()
    (standing,) = replanner.seen[-1]
    assert standing.replicas == {"a": fleet.replicas["a"]}
    assert standing.rent_usd_per_s * 3600 == pytest.approx(fleet.replicas["a"] * 1.0)
    assert standing.usd_per_s >= standing.rent_usd_per_s
    asked = sum(standing.rates_rps.values())
    assert 4 * each_rps() <= asked * 1.05
    assert asked <= 1.5 * 4 * each_rps()


def test_after_a_crash_the_plan_that_runs_is_found_beside_the_first(tmp_path, monkeypatch):
    file = tmp_path / "plan.yaml"
    documents.write(file, documents.dump(ONE))
    documents.write(replanned_path(file, OTHER), documents.dump(OTHER))

    def runs(plan):
        if plan.digest != OTHER.digest:
            raise ClusterError("'demo' runs another plan; deploy this one first")
        return Target(None, None)

    monkeypatch.setitem(autoscale_targets.TARGETS, "fake", runs)
    assert reached(file, "fake")[0] == OTHER
    replanned_path(file, OTHER).unlink()
    with pytest.raises(ClusterError, match="runs another plan"):
        reached(file, "fake")


def test_limits_of_groups_that_a_plan_has_not_are_left_out():
    policy = ScalePolicy(minimum={"a": 1, "c": 2}, maximum={"a": 3})
    kept = within(policy, OTHER)
    assert (kept.minimum, kept.maximum) == ({"c": 2}, {})
    assert within(ScalePolicy(), OTHER, least=1).minimum == {"c": 1}
