"""Deploying to this machine: safe to repeat, clean when it fails. Ray is replaced by a script."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.deploy import local, preflight
from orchestrator.deploy.base import Status
from orchestrator.deploy.local import delete_local, deploy_local, local_status, running_plan
from orchestrator.deploy.state import ProcessId, StateDir
from orchestrator.report import status_line
from placement.plan import Plan
from profiler import documents
from profiler.engine import free_port
from profiler.errors import ClusterError, EngineError, InputError
from profiler.files import sha256_of
from tests.plan_builders import group, plan
from tests.router_builders import planned_router

PORT = free_port()


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "SUPERVISOR_MODULE", "tests.orchestrator.deploy.fake_supervisor")
    monkeypatch.setattr(preflight, "check_installed", lambda **asked: None)


@pytest.fixture
def root(tmp_path: Path) -> Any:
    yield tmp_path
    for path in tmp_path.iterdir():
        if path.is_dir():
            delete_local(path.name, root=tmp_path)


def deploy(p: Plan, root: Path, **kwargs: Any) -> Status:
    return deploy_local(p, root=root, **({"port": PORT, "wait_s": 30} | kwargs))


def supervisor(root: Path, name: str = "demo") -> ProcessId | None:
    return StateDir(name, root).supervisor()


def test_a_deployed_pool_outlives_the_call_until_it_is_deleted(root: Path) -> None:
    seen: list[Status] = []
    status = deploy(plan(), root, on_progress=seen.append)
    assert (status.state, status.url) == ("running", f"http://127.0.0.1:{PORT}/v1")
    assert seen[-1].state == "running"
    assert supervisor(root) is not None
    found = local_status("demo", root)
    assert found is not None
    assert found.groups[0].ready == 1
    assert delete_local("demo", root=root)
    assert local_status("demo", root) is None
    assert not (root / "demo").exists()
    assert not delete_local("demo", root=root)


def test_the_same_plan_twice_changes_nothing(root: Path) -> None:
    first = deploy(plan(), root)
    second = deploy(plan(), root)
    assert second.pid == first.pid
    assert "nothing changed" in second.message


def test_a_plan_for_gpus_that_are_not_here_is_emulated(root: Path) -> None:
    p = plan((group("a", gpu="H100", replicas=4),))
    with pytest.raises(ClusterError, match="needs 4 x H100"):
        deploy(p, root)
    status = deploy(p, root, emulate=True)
    assert status.emulated
    assert status_line(status) == "demo: running (emulated): a 4/4"
    assert "nothing changed" in deploy(p, root, emulate=True).message
    with pytest.raises(ClusterError, match="needs 4 x H100"):
        deploy(p, root)


def test_real_engines_take_the_place_of_emulated_ones(root: Path) -> None:
    emulated = deploy(plan(), root, emulate=True)
    real = deploy(plan(), root)
    assert (real.pid, real.emulated, real.message) == (emulated.pid, False, "")


def test_another_plan_is_put_in_force_by_the_same_pool(root: Path) -> None:
    first = deploy(plan(), root)
    changed = plan((group("a"), group("b", "m2")))
    second = deploy(changed, root)
    assert second.pid == first.pid
    assert second.plan_digest == changed.digest
    assert [g.name for g in second.groups] == ["a", "b"]


def test_a_failed_change_can_be_tried_again(root: Path) -> None:
    deploy(plan(), root)
    changed = plan((group("bad"),))
    with pytest.raises(EngineError, match="boom"):
        deploy(changed, root)
    again = deploy(changed, root)  # the old failure still stands in the status when this starts
    assert (again.plan_digest, again.failure) == (changed.digest, None)


def test_after_a_failed_change_the_plan_before_it_runs(root: Path) -> None:
    deploy(plan(), root)
    StateDir("demo", root).write_in_force(plan())
    with pytest.raises(EngineError, match="boom"):
        deploy(plan((group("bad"),)), root)
    assert running_plan("demo", root) == plan()


def test_another_port_for_a_running_pool_is_refused(root: Path) -> None:
    deploy(plan(), root)
    with pytest.raises(InputError, match="already runs at"):
        deploy(plan(), root, port=free_port())


def test_a_port_in_use_stops_the_deploy_before_it_starts(root: Path) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        with pytest.raises(InputError, match="in use"):
            deploy(plan(), root, port=s.getsockname()[1])
    assert not (root / "demo").exists()


def test_a_failed_engine_is_shown_and_nothing_runs(root: Path) -> None:
    seen: list[Status] = []
    with pytest.raises(EngineError, match="group 'a': boom") as caught:
        deploy(plan(service="fails"), root, on_progress=seen.append)
    assert not Path(f"/proc/{seen[0].pid}").exists()  # not even a zombie
    assert caught.value.log_tail == "tail"
    assert supervisor(root, "fails") is None
    assert not StateDir("fails", root).exists


def test_a_supervisor_that_crashes_is_reported_with_its_log(root: Path) -> None:
    with pytest.raises(EngineError, match="RuntimeError: no good"):
        deploy(plan(service="crashes"), root)
    assert not StateDir("crashes", root).exists


def test_a_deploy_that_takes_too_long_is_undone(root: Path) -> None:
    with pytest.raises(ClusterError, match="group 'a' has 0 of 1 replicas"):
        deploy(plan(service="slow"), root, wait_s=3)  # its supervisor must have spoken by then
    assert supervisor(root, "slow") is None


def test_keeping_a_failed_pool_leaves_it_for_inspection(root: Path) -> None:
    with pytest.raises(ClusterError):
        deploy(plan(service="slow"), root, wait_s=1, keep_on_failure=True)
    assert supervisor(root, "slow") is not None


def test_ctrl_c_undoes_a_new_deploy(root: Path) -> None:
    seen: list[Status] = []

    def interrupt_once(status: Status) -> None:
        seen.append(status)
        if len(seen) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deploy(plan(), root, on_progress=interrupt_once)
    assert supervisor(root) is None
    assert not (root / "demo").exists()


def test_ctrl_c_leaves_a_pool_that_ran_before(root: Path) -> None:
    deploy(plan(), root)

    def interrupt(status: Status) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deploy(plan((group("b"),)), root, on_progress=interrupt)
    assert supervisor(root) is not None


def test_state_of_a_dead_supervisor_is_cleaned_by_the_next_deploy(root: Path) -> None:
    deploy(plan(), root)
    old = supervisor(root)
    assert old is not None
    old.send(signal.SIGKILL)
    assert old.wait(30)
    assert local_status("demo", root) is None
    assert deploy(plan(), root).pid != old.pid


def test_deleting_after_the_supervisor_died_removes_what_it_left(root: Path) -> None:
    deploy(plan(), root)
    old = supervisor(root)
    assert old is not None
    old.send(signal.SIGKILL)
    assert old.wait(30)
    assert delete_local("demo", root=root)
    assert not (root / "demo").exists()


def test_a_recycled_process_number_is_never_signalled(root: Path) -> None:
    state = StateDir("demo", root)
    state.path.mkdir()
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as stranger:
        now = ProcessId.of(stranger.pid)
        assert now is not None
        state.write_supervisor(now.model_copy(update={"start_ticks": now.start_ticks - 1}))
        assert delete_local("demo", root=root)
        assert stranger.poll() is None
        stranger.kill()


def test_a_command_that_is_terminated_undoes_its_deploy(root: Path) -> None:
    code = f"""
import sys
from orchestrator import cli
from orchestrator.deploy import local, preflight
local.SUPERVISOR_MODULE = "tests.orchestrator.deploy.fake_supervisor"
preflight.check_installed = lambda **asked: None
sys.argv = ["orchestrator", "deploy", {str(root / "slow.plan.yaml")!r}, "--port", "{PORT}"]
cli.main()
"""
    documents.write(root / "slow.plan.yaml", documents.dump(plan(service="slow")))
    env = os.environ | {"XDG_STATE_HOME": str(root)}
    with subprocess.Popen(
        [sys.executable, "-c", code], env=env, stderr=subprocess.PIPE, text=True
    ) as command:
        assert command.stderr is not None
        for line in command.stderr:
            if line.startswith("slow: starting"):  # the supervisor's first status
                break
        kept = supervisor(root / "orchestrator", "slow")
        assert kept is not None
        command.send_signal(signal.SIGTERM)
        rest = command.stderr.read()
    assert command.returncode == 128 + signal.SIGTERM, rest
    assert not kept.alive


def test_importing_the_target_does_not_import_ray() -> None:
    code = "import sys, orchestrator.deploy.local; print('ray' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.strip() == "False"


def with_router(artefact: Path) -> Plan:
    router = planned_router(["m1"], artefact=artefact.name, sha256=sha256_of(artefact))
    return plan().model_copy(update={"router": router})


def test_the_pool_keeps_its_own_copy_of_the_routers_artefact(root: Path, tmp_path: Path) -> None:
    source = tmp_path / "router.npz"
    source.write_bytes(b"an artefact")
    p = with_router(source)
    assert p.router is not None
    deploy(p, root, artefact=source)
    kept = StateDir("demo", root).artefact(p.router)
    source.unlink()
    assert kept.read_bytes() == b"an artefact"
    again = deploy(p, root)
    assert "nothing changed" in again.message


def test_an_artefact_that_is_not_the_plans_is_refused(root: Path, tmp_path: Path) -> None:
    source = tmp_path / "router.npz"
    source.write_bytes(b"an artefact")
    p = with_router(source)
    deploy(plan(), root)
    source.write_bytes(b"another")
    with pytest.raises(InputError, match="found artefact"):
        deploy(p, root, artefact=source)
    with pytest.raises(InputError, match="found none"):
        deploy(p, root)
    assert running_plan("demo", root) == plan()
