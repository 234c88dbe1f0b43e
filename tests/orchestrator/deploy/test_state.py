"""A pool's files tell who keeps it, and never point at a stranger's process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.deploy.state import ProcessId, StateDir
from profiler.errors import ClusterError
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
    state.write_plan(plan())
    assert state.read_plan() == plan()
    assert state.read_plan().digest == plan().digest


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
    state.write_plan(plan())
    state.write_supervisor(me())
    state.clear(keep_logs=True)
    assert (log.exists(), state.exists, state.plan_file.exists()) == (True, False, False)
    state.clear(keep_logs=False)
    assert not state.path.exists()
