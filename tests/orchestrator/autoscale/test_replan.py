"""A better plan is looked for beside the turns, and said, or put in force, once."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass

import pytest

from orchestrator.autoscale.decisions import Journal, read_journal, read_replans
from orchestrator.autoscale.replan import Replanner
from placement.plan import Plan
from profiler.errors import ClusterError, InputError
from tests.orchestrator.autoscale import scenes
from tests.orchestrator.autoscale.test_market import market, potential, standing

HERE = scenes.plan({"a": 1.0})
THERE = scenes.plan({"b": 0.4})
GAIN = (standing(),)


class Later(Executor):
    """Does what it is given when told to."""

    def __init__(self):
        self.given = []
        self.broken = False

    def submit(self, fn, /, *args, **kwargs):
        if self.broken:
            raise BrokenExecutor
        future = Future()
        self.given.append((future, fn, args))
        return future

    def work(self):
        for future, fn, args in self.given:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(fn(*args))
                except Exception as error:  # noqa: BLE001  # as an executor does
                    future.set_exception(error)
        self.given = []

    def crash(self):
        self.broken = True
        for future, _, _ in self.given:
            future.set_exception(BrokenExecutor())
        self.given = []

    def shutdown(self, wait=True, *, cancel_futures=False):
        for future, _, _ in self.given if cancel_futures else ():
            future.cancel()


@dataclass(frozen=True)
class Found:
    plan: Plan = THERE
    usd_per_hour: float = 1.2
    moving_usd: float = 0.1
    stay_usd_per_hour: float | None = 4.0
    horizon_h: float = 4.0
    saving_usd: float = 11.1


class Scene:
    """A replanner, its workers, and what it did; the solver finds ``found``."""

    def __init__(self, found=Found(), apply=None, **more):
        self.workers, self.hands = [], Later()
        self.told, self.said, self.wishes, self.kept = [], [], [], []
        self.found, self.now_s = found, 0.0
        self.one = Replanner(
            plan=HERE,
            solver=self,
            workers=self._worker,
            appliers=lambda: self.hands,
            potential=potential,
            keep=self._keep,
            told=self.told.append,
            say=self.said.append,
            apply=apply,
            **more,
        )

    def _worker(self):
        self.workers.append(Later())
        return self.workers[-1]

    def _keep(self, plan):
        self.kept.append(plan)
        return "plan.replanned.yaml"

    def survey(self):
        return market(a=1.0, b=0.4)

    def replan(self, wish):
        self.wishes.append(wish)
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    def turn(self, standings=GAIN, *, work=True):
        self.now_s += 20
        reached = self.one.turn(standings, self.now_s)
        if work:
            for worker in [*self.workers, self.hands]:
                worker.work()
        return reached

    def turns(self, count, standings=GAIN):
        return [self.turn(standings) for _ in range(count)]


def test_a_better_plan_is_written_and_said_once():
    scene = Scene()
    scene.turns(30)
    assert [d.action for d in scene.told] == ["suggested"]
    assert scene.kept == [THERE]
    assert len(scene.wishes) == 1
    assert "orchestrator deploy plan.replanned.yaml" in scene.told[0].line()
    assert "saves $11.10" in scene.told[0].line()


def test_the_solver_is_told_the_load_the_fleet_and_what_is_out_of_stock():
    scene = Scene()
    scene.turns(5, (standing(replicas={"a": 4}, out=("x",)),))
    (wish,) = scene.wishes
    assert (wish.plan, wish.running, wish.out) == (HERE, {"a": 4}, ("x",))
    assert wish.rates_rps[scenes.KEY] == pytest.approx(standing().rates_rps[scenes.KEY])


def test_no_turn_waits_for_the_solver():
    scene = Scene()
    scene.turn()
    for _ in range(50):
        scene.turn(work=False)
    assert scene.one.busy
    assert len(scene.workers[-1].given) == 1
    assert scene.told == []


def test_more_to_gain_is_looked_for_again():
    scene = Scene(found=None)
    scene.turns(10)
    assert len(scene.wishes) == 1
    scene.turns(10, (standing(8.0, work=0.3),))
    assert len(scene.wishes) == 2


@pytest.mark.parametrize("found", [None, Found(saving_usd=-0.1), Found(plan=HERE)])
def test_what_is_no_better_is_not_told(found):
    scene = Scene(found)
    scene.turns(10)
    assert scene.told == []
    assert scene.kept == []


def test_a_plan_over_the_budget_is_passed_over():
    scene = Scene(budget_usd_per_hour=1.0)
    scene.turns(10)
    assert scene.told == []


def test_a_plan_is_put_in_force_where_that_is_allowed():
    scene = Scene(apply=lambda plan: ("reached", plan))
    reached = [r for r in scene.turns(10) if r is not None]
    assert reached == [("reached", THERE)]
    assert [d.action for d in scene.told] == ["applied"]
    assert scene.one.plan == THERE
    assert scene.kept == [THERE]  # written before it is put in force


def test_a_plan_that_cannot_be_put_in_force_is_told_and_left():
    def refused(plan):
        raise ClusterError("an engine did not start")

    scene = Scene(apply=refused)
    assert scene.turns(30) == [None] * 30
    assert [d.action for d in scene.told] == ["failed"]
    assert "an engine did not start" in scene.told[0].line()
    assert scene.one.plan == HERE


def test_a_worker_that_dies_is_replaced_when_there_is_more_to_gain():
    scene = Scene()
    scene.turn()
    scene.turn(work=False)
    scene.workers[-1].crash()
    scene.turns(5)
    assert "worker that solves died" in scene.said[0]
    assert len(scene.workers) == 1
    scene.turns(5, (standing(8.0, work=0.3),))
    assert len(scene.workers) == 2
    assert [d.action for d in scene.told] == ["suggested"]


def test_a_service_file_that_is_wrong_ends_looking():
    scene = Scene()

    def wrong():
        raise InputError("line 3: found x, expected y")

    scene.survey = wrong
    scene.turns(30)
    assert scene.said == ["no other plan was found: line 3: found x, expected y"]


def test_a_group_that_cannot_carry_the_load_is_said_so():
    scene = Scene(Found(stay_usd_per_hour=None, saving_usd=float("inf")))
    scene.turns(5)
    assert "cannot carry the load" in scene.told[0].line()
    assert scene.told[0].saving_usd is None


def test_the_journal_keeps_plans_beside_changes(tmp_path):
    scene = Scene()
    scene.turns(5)
    path = tmp_path / "journal.jsonl"
    Journal(path).add(scene.told)
    assert read_replans(path) == scene.told
    assert read_journal(path) == []
