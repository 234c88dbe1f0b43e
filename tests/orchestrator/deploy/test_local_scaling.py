"""An autoscaler sees and changes a pool here through its files, and trusts no stale one."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from orchestrator.autoscale.loop import OutOfStockError
from orchestrator.deploy.base import GroupStatus, PoolState, ScaleRequest, Status
from orchestrator.deploy.local_scaling import STALE_S, LocalActuator, LocalMeter, target_at
from orchestrator.deploy.state import ProcessId, StateDir
from placement.plan import Plan
from profiler.errors import ClusterError
from tests.plan_builders import group, plan

PLAN = plan((group("a", replicas=2),), service="demo")


class Pool:
    """The files of a pool whose supervisor is this very process."""

    def __init__(self, root: Path) -> None:
        self.state = StateDir("demo", root)
        self.state.path.mkdir(parents=True)
        self.request = self.state.request(PLAN)
        me = ProcessId.of(os.getpid())
        assert me is not None
        self.state.write_supervisor(me)
        self.now_s = 1000.0
        self.room = 10
        self.tell()

    def tell(
        self,
        ready: int = 2,
        wanted: int = 2,
        *,
        scale: str = "",
        draining: int = 0,
        failed_starts: int = 0,
        state: PoolState = "running",
    ) -> None:
        found = GroupStatus(
            name="a", model="m1", gpu="cpu", wanted=wanted, ready=ready, state="ready",
            draining=draining, failed_starts=failed_starts,
        )  # fmt: skip
        status = Status(
            name="demo", state=state, url="http://127.0.0.1:1/v1", plan_digest=PLAN.digest,
            request=self.request.id, scale=scale, groups=(found,), pid=1, updated_s=self.now_s,
        )  # fmt: skip
        self.state.write_status(status)

    def actuator(self) -> LocalActuator:
        def room(_plan: Plan, *_: object) -> int:
            return self.room

        return LocalActuator(self.state, lambda: self.now_s, room)

    @property
    def asked(self) -> ScaleRequest | None:
        return self.state.read_scale()


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pool:
    monkeypatch.setattr(ProcessId, "send", lambda *_: None)
    return Pool(tmp_path)


def test_what_was_asked_for_counts_as_starting_before_the_supervisor_has_taken_it_up(pool: Pool):
    pool.actuator().set("a", 4)
    seen = pool.actuator().current()["a"]  # another process, such as one started after a crash
    assert (seen.ready, seen.starting, seen.staying) == (2, 2, 4)


def test_replicas_too_many_count_as_draining(pool: Pool):
    actuator = pool.actuator()
    actuator.set("a", 0)
    seen = actuator.current()["a"]
    assert (seen.ready, seen.starting, seen.draining) == (0, 0, 2)
    assert pool.asked is not None
    assert pool.asked.replicas == {"a": 0}


def test_what_the_supervisor_gave_up_is_told_as_out_of_stock_once(pool: Pool):
    actuator = pool.actuator()
    actuator.current()
    actuator.set("a", 3)
    assert pool.asked is not None
    pool.tell(scale=pool.asked.id, wanted=2, failed_starts=1)
    assert actuator.current()["a"].staying == 2
    with pytest.raises(OutOfStockError) as caught:
        actuator.set("a", 3)
    assert (caught.value.group, caught.value.short) == ("a", 1)
    actuator.set("a", 3)
    assert actuator.current()["a"].staying == 3


def test_more_than_fit_are_not_asked_for(pool: Pool):
    pool.room = 1
    actuator = pool.actuator()
    with pytest.raises(OutOfStockError) as caught:
        actuator.set("a", 5)
    assert caught.value.short == 2
    assert actuator.current()["a"].staying == 3


def test_another_plan_voids_what_was_asked_of_the_one_before(pool: Pool):
    actuator = pool.actuator()
    actuator.set("a", 5)
    pool.request = pool.state.request(PLAN)
    pool.tell()
    assert actuator.current()["a"].staying == 2


@pytest.mark.parametrize("state", ["starting", "updating", "stopping"])
def test_a_pool_that_is_not_in_force_is_not_changed(pool: Pool, state: PoolState):
    pool.tell(state=state)
    with pytest.raises(ClusterError, match=state):
        pool.actuator().current()


def test_a_silent_supervisor_is_not_believed(pool: Pool):
    pool.now_s += STALE_S + 1
    with pytest.raises(ClusterError, match="silent"):
        pool.actuator().current()


def test_only_one_autoscaler_acts_on_a_pool(pool: Pool):
    first, second = target_at(pool.state, PLAN), target_at(pool.state, PLAN)
    with first.hold(), pytest.raises(ClusterError, match="another autoscaler"), second.hold():
        pass
    with second.hold():
        pass


def test_a_pool_of_another_plan_is_refused(pool: Pool):
    with pytest.raises(ClusterError, match="another plan"):
        target_at(pool.state, plan((group("b"),), service="demo"))


class Counts:
    """What ingress processes have told; this process stands for one that runs."""

    DEAD = 2**22 + 1

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.meter = LocalMeter(directory)

    def tell(self, count: float, pid: int | None = None, age_s: float = 0.0) -> None:
        pid = os.getpid() if pid is None else pid
        told = {"pid": pid, "at_unix_s": time.time() - age_s, "counts": [["auto", "b", count]]}
        (self._directory / f"{pid}.json").write_text(json.dumps(told))


@pytest.fixture
def counts(tmp_path: Path) -> Counts:
    return Counts(tmp_path)


def test_arrivals_at_all_processes_are_summed_also_of_one_that_ended(counts: Counts):
    counts.tell(5)
    counts.tell(1, counts.DEAD)
    assert counts.meter.arrivals() is None
    counts.tell(9)
    counts.tell(3, counts.DEAD)
    assert counts.meter.arrivals() == {("auto", "b"): 6.0}


def test_a_process_that_is_new_counts_from_nothing_and_so_does_a_number_given_anew(counts: Counts):
    counts.tell(5)
    counts.meter.arrivals()
    counts.tell(2)
    counts.tell(4, counts.DEAD)
    assert counts.meter.arrivals() == {("auto", "b"): 6.0}


def test_one_silent_process_makes_the_count_unknown_until_two_looks_later(counts: Counts):
    counts.tell(5)
    counts.meter.arrivals()
    counts.tell(50, age_s=STALE_S + 5)
    assert counts.meter.arrivals() is None
    counts.tell(60)
    assert counts.meter.arrivals() is None
    counts.tell(61)
    assert counts.meter.arrivals() == {("auto", "b"): 1.0}


def test_without_any_process_nothing_is_known(counts: Counts):
    counts.tell(5, counts.DEAD)
    counts.meter.arrivals()
    assert counts.meter.arrivals() is None


def test_a_file_that_cannot_be_read_makes_the_count_unknown(counts: Counts, tmp_path: Path):
    counts.tell(5)
    counts.meter.arrivals()
    (tmp_path / "17.json").write_text("{")
    assert counts.meter.arrivals() is None


def test_a_plan_that_was_deployed_with_options_is_still_the_plan_of_its_file(
    tmp_path: Path,
) -> None:
    pool = Pool(tmp_path)
    open_ = PLAN.model_copy(update={"gateway": {"guard": {"allow_anonymous": True}}})
    assert open_.digest != PLAN.digest
    target_at(pool.state, open_)
    with pytest.raises(ClusterError, match="runs another plan"):
        target_at(pool.state, plan((group("a", replicas=3),), service="demo"))
