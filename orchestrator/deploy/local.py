"""This machine as a deploy target: a detached supervisor keeps the pool after the command ends.

Nothing here imports Ray.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from orchestrator.deploy import preflight
from orchestrator.deploy.base import (
    AutoscaleSettings,
    Failure,
    PlanRequest,
    Progress,
    Status,
)
from orchestrator.deploy.state import POLL_S, ProcessId, StateDir
from placement.plan import Plan
from profiler import logtail
from profiler.errors import ClusterError, EngineError, InputError, OrchestratorError
from profiler.hardware import find_hardware
from serve_apps.gateway_settings import gateway_of
from serve_apps.guard.keys_file import load_keys
from serve_apps.guard.settings import check_exposure

DEFAULT_PORT = 8000
DEFAULT_WAIT_S = 900.0
STOP_TIMEOUT_S = 90.0
SUPERVISOR_MODULE = "orchestrator.deploy.local_supervisor"
SUPERVISOR_ENV = {
    "PYTHONUNBUFFERED": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def deploy_local(
    plan: Plan,
    *,
    port: int = DEFAULT_PORT,
    wait_s: float = DEFAULT_WAIT_S,
    on_progress: Progress = lambda _status: None,
    keep_on_failure: bool = False,
    root: Path | None = None,
    artefact: Path | None = None,
    emulate: bool = False,
    autoscale: AutoscaleSettings | None = None,
) -> Status:
    """Make the plan run on this machine and wait until it is healthy.

    The pool is named after the plan's service. The same plan again changes nothing; another plan
    for the same service replaces it group by group. A failed or interrupted first deploy leaves
    nothing running unless ``keep_on_failure``; a failed change goes back to the plan before.
    ``artefact`` is the plan's router artefact; the pool keeps a copy. With ``emulate`` the engines
    of all groups, whatever GPUs the plan has them on, only keep the time of their profiles. With
    ``autoscale`` the pool changes its replicas by itself; a deploy always begins with the plan's.

    Raises:
        InputError: it would serve the world without keys, or its keys file is wrong; the port is
            taken, the pool runs on another port, or the artefact is missing.
        EngineError: an engine did not start; carries the end of its log.
        ClusterError: something this needs is missing here, or it took longer than ``wait_s``.
    """
    guard = gateway_of(plan).guard
    check_exposure(guard, plan.targets.local.host)
    if guard.keys is not None:
        load_keys(guard.keys)
    state = StateDir(plan.service, root)
    wait = _Wait(state, plan, wait_s, on_progress, artefact, emulate, autoscale)
    with state.lock():
        supervisor = state.supervisor()
        if supervisor is None:
            return _deploy_new(wait, port, keep=keep_on_failure)
        return _deploy_over(wait, supervisor, port)


def local_status(name: str, root: Path | None = None) -> Status | None:
    """The pool of that name on this machine; None when there is none, or its keeper died."""
    state = StateDir(name, root)
    return state.read_status() if state.supervisor() else None


def running_plan(name: str, root: Path | None = None) -> Plan | None:
    """The plan that the pool of that name runs, or is going to; None when there is no pool."""
    state = StateDir(name, root)
    if state.supervisor() is None:
        return None
    request, status = state.read_request(), state.read_status()
    return state.read_in_force() if _refused(request, status) else request.plan


def delete_local(
    name: str, on_progress: Progress = lambda _status: None, root: Path | None = None
) -> bool:
    """Stop the pool and remove its files; False when there was none.

    Raises:
        ClusterError: another command works on the pool.
    """
    state = StateDir(name, root)
    if not state.path.exists():
        return False
    with state.lock():
        existed = state.exists
        _stop(state, on_progress)
        state.clear(keep_logs=False)
        return existed


class LocalTarget:
    """`base.Target` for this machine."""

    def __init__(self, port: int = DEFAULT_PORT) -> None:
        self._port = port

    def deploy(self, plan: Plan, *, wait_s: float, on_progress: Progress) -> Status:
        """See `deploy_local`."""
        return deploy_local(plan, port=self._port, wait_s=wait_s, on_progress=on_progress)

    def status(self, name: str) -> Status | None:
        """See `local_status`."""
        return local_status(name)

    def delete(self, name: str, on_progress: Progress) -> bool:
        """See `delete_local`."""
        return delete_local(name, on_progress)


@dataclasses.dataclass(frozen=True)
class _Wait:
    """Waiting until a plan is in force, with progress."""

    state: StateDir
    plan: Plan
    wait_s: float
    on_progress: Progress
    artefact: Path | None = None
    emulate: bool = False
    autoscale: AutoscaleSettings | None = None

    def request(self) -> PlanRequest:
        """Ask for the plan, with its artefact in place.

        Raises:
            InputError: it is missing, or another one.
        """
        if self.plan.router is not None:
            self.state.keep_artefact(self.plan.router, self.artefact)
        return self.state.request(self.plan, emulate=self.emulate, autoscale=self.autoscale)

    def until_running(self, supervisor: ProcessId, request: PlanRequest) -> Status:
        """The status once the request is in force; what became of others does not count.

        Raises:
            EngineError: an engine did not start, or the supervisor died.
            ClusterError: it took longer than ``wait_s``.
        """
        deadline = time.monotonic() + self.wait_s
        report = _Report(self.state, self.on_progress)
        while True:
            alive = supervisor.alive  # asked first: a last status may come just before the end
            status = report.read()
            if status is not None:
                if status.failure and status.failure.request == request.id:
                    raise _failure(status.failure)
                if status.request == request.id and status.state == "running":
                    return status
            if not alive:
                raise _died(self.state)
            if time.monotonic() > deadline:
                raise _timed_out(status, self.wait_s)
            supervisor.wait(POLL_S)


class _Report:
    """Hands on each status that differs from the one before."""

    def __init__(self, state: StateDir, on_progress: Progress) -> None:
        self._state = state
        self._on_progress = on_progress
        self._shown: Status | None = None

    def read(self) -> Status | None:
        status = self._state.read_status()
        if status is not None:
            unclocked = status.model_copy(update={"updated_s": 0.0})
            if unclocked != self._shown:
                self._shown = unclocked
                self._on_progress(status)
        return status


def _deploy_new(wait: _Wait, port: int, *, keep: bool) -> Status:
    state, plan = wait.state, wait.plan
    preflight.check_installed(emulate=wait.emulate)
    if not wait.emulate:
        preflight.check_accelerators(plan, find_hardware().gpus)
    preflight.check_memory(plan, preflight.available_memory_bytes(), emulate=wait.emulate)
    preflight.check_port(port, plan.targets.local.host)
    state.clear(keep_logs=False)  # what a pool whose keeper died has left
    state.path.mkdir(parents=True, exist_ok=True)
    supervisor = None
    try:
        request = wait.request()
        supervisor = _launch(state, port, keep=keep)
        return wait.until_running(supervisor, request)
    except BaseException as error:
        # Ctrl-C and time-outs included: a pool that was never there must not stay behind.
        ours = isinstance(error, OrchestratorError)
        if not (keep and ours):
            _stop(state, wait.on_progress)
            if supervisor is not None:
                supervisor.wait(0)  # leaves no zombie where it ended by itself
            state.clear(keep_logs=ours)
        raise


def _deploy_over(wait: _Wait, supervisor: ProcessId, port: int) -> Status:
    state, plan = wait.state, wait.plan
    now = state.read_status()
    if now is not None and f":{port}/" not in now.url:
        raise InputError(
            f"{state.name!r} already runs at {now.url}; delete it first, "
            "or deploy to the port it has"
        )
    newest = state.read_request()
    same = (newest.plan.digest, newest.emulate) == (plan.digest, wait.emulate)
    if same and newest.autoscale == wait.autoscale and not _refused(newest, now):
        state.forget_scale()
        supervisor.send(signal.SIGHUP)  # whoever asked may have ended before saying so
        status = wait.until_running(supervisor, newest)
        return status.model_copy(update={"message": "already running; nothing changed"})
    if not wait.emulate:
        preflight.check_installed()
        preflight.check_accelerators(plan, find_hardware().gpus)
    request = wait.request()
    supervisor.send(signal.SIGHUP)
    return wait.until_running(supervisor, request)


def _refused(request: PlanRequest, status: Status | None) -> bool:
    """Whether the request was taken up, and failed."""
    failure = status.failure if status else None
    return failure is not None and failure.request == request.id


def _launch(state: StateDir, port: int, *, keep: bool) -> ProcessId:
    command = [sys.executable, "-m", SUPERVISOR_MODULE]
    command += [str(state.path), str(port), *(["--keep"] if keep else [])]
    here = str(Path(__file__).parents[2])  # Ray's workers import us too, from any directory
    path = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    env = {**os.environ, **SUPERVISOR_ENV, "PYTHONPATH": path}
    with state.supervisor_log.open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=env,
        )
    identity = ProcessId.of(process.pid)
    if identity is None:
        raise _died(state)
    state.write_supervisor(identity)
    process.returncode = 0  # it outlives us: `ProcessId` watches it, not this object
    return identity


def _stop(state: StateDir, on_progress: Progress) -> None:
    supervisor = state.supervisor()
    if supervisor is None:
        return
    supervisor.send(signal.SIGTERM)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    report = _Report(state, on_progress)
    while not supervisor.wait(POLL_S):
        report.read()
        if time.monotonic() > deadline:
            supervisor.send(signal.SIGKILL)  # Ray and the engines end with it


def _failure(failure: Failure) -> OrchestratorError:
    if failure.exit_code == InputError.exit_code:
        return InputError(failure.message)
    return EngineError(failure.message, failure.log_tail)


def _died(state: StateDir) -> ClusterError:
    cause = logtail.cause(state.supervisor_log)
    return EngineError(
        f"the process that keeps the pool ended unexpectedly{': ' + cause if cause else ''}; "
        f"its log: {state.supervisor_log}",
        logtail.tail(state.supervisor_log),
    )


def _timed_out(status: Status | None, wait_s: float) -> ClusterError:
    waiting = [
        f"group {g.name!r} has {g.ready} of {g.wanted} replicas"
        + (f", its log: {g.log}" if g.log else "")
        for g in (status.groups if status else ())
        if g.ready < g.wanted
    ]
    return ClusterError(
        f"not healthy after {wait_s:.0f} s: {'; '.join(waiting) or 'still starting'}; "
        "wait longer with --wait"
    )
