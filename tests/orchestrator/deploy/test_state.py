"""A pool's files tell who keeps it, and never point at a stranger's process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.deploy.state import ProcessId, StateDir, running_names
from profiler.errors import ClusterError, InputError
from tests.plan_builders import plan


def me() -> ProcessId:
    process = ProcessId.of(os.getpid())
    assert process is not None
    return process


def test_a_live_process_is_recognised() -> None:
    assert me().alive


@pytest.mark.parametrize("changed", [{"start_ticks": 1}, {"boot_id": "before the reboot"}])
def test_a_number_that_now_belongs_to_another_process_is_not_it(changed: dict) -> None:
    assert not me().model_copy(update=changed).alive


def test_a_process_that_ended_but_was_not_reaped_is_gone() -> None:
    with subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert ProcessId.of(child.pid) is None


def test_the_state_home_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert StateDir("demo").path == tmp_path / "orchestrator" / "demo"
    monkeypatch.setenv("XDG_STATE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert StateDir("demo").path == tmp_path / ".local" / "state" / "orchestrator" / "demo"


def test_a_plan_survives_its_file(tmp_path: Path) -> None:
    state = StateDir("demo", tmp_path)
    state.path.mkdir()
    request = state.request(plan())
    assert state.read_request() == request
    assert state.read_request().plan.digest == plan().digest
    assert state.read_in_force() is None
    state.write_in_force(plan())
    assert state.read_in_force() == plan()


def test_the_same_plan_asked_for_twice_is_two_requests(tmp_path: Path) -> None:
    state = StateDir("demo", tmp_path)
    state.path.mkdir()
    assert state.request(plan()).id != state.request(plan()).id


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", "../x", "a/", ".hidden", "a\0b"])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="cannot name a service"):
        StateDir(name, tmp_path)


def test_clearing_leaves_a_directory_that_is_no_pools(tmp_path: Path) -> None:
    precious = tmp_path / "demo" / "precious"
    precious.parent.mkdir()
    precious.touch()
    StateDir("demo", tmp_path).clear(keep_logs=False)
    assert precious.exists()


def test_a_second_command_on_the_same_pool_is_refused(tmp_path: Path) -> None:
    first, second = StateDir("demo", tmp_path), StateDir("demo", tmp_path)
    with first.lock(), pytest.raises(ClusterError, match="another command"), second.lock():
        pass
    with second.lock():
        pass


def test_clearing_keeps_the_logs_when_asked(tmp_path: Path) -> None:
    state = StateDir("demo", tmp_path)
    log = state.engine_logs / "a" / "r1.log"
    log.parent.mkdir(parents=True)
    log.write_text("x")
    state.supervisor_log.touch()
    state.request(plan())
    state.write_supervisor(me())
    state.clear(keep_logs=True)
    assert (log.exists(), state.exists) == (True, False)
    assert list(state.path.glob("*.yaml")) == []
    state.clear(keep_logs=False)
    assert not state.path.exists()


def test_pools_whose_keeper_lives_are_found(tmp_path: Path) -> None:
    assert running_names(tmp_path / "none") == []
    for name, process in (("b", me()), ("a", me()), ("dead", me())):
        state = StateDir(name, tmp_path)
        state.path.mkdir()
        ticks = process.start_ticks - (name == "dead")
        state.write_supervisor(process.model_copy(update={"start_ticks": ticks}))
    (tmp_path / ".a.lock").touch()
    assert running_names(tmp_path) == ["a", "b"]
