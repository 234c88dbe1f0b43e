"""Where a local pool keeps its files, and whether the process that keeps the pool still lives."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from orchestrator.deploy.base import AutoscaleSettings, PlanRequest, ScaleRequest, Status
from placement.plan import Plan, PlannedRouter
from profiler import documents
from profiler.core import Noun
from profiler.errors import ClusterError, InputError
from profiler.files import read_bytes

POLL_S = 0.2


class ProcessId(Noun):
    """A process, told apart from any later one that is given the same number."""

    pid: int
    start_ticks: int
    boot_id: str

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        """The process that has this number now; None when none has, or it is a zombie."""
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return (
            None
            if fields[0] == "Z"
            else cls(pid=pid, start_ticks=int(fields[19]), boot_id=_boot_id())
        )

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        return ProcessId.of(self.pid) == self

    def send(self, number: signal.Signals) -> None:
        """Signal the process, if it still is the one meant."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def wait(self, timeout_s: float) -> bool:
        """Wait for its end; False when it still runs after ``timeout_s``."""
        deadline = time.monotonic() + timeout_s
        while self.alive:
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)  # when it was a child of ours
        return True


class StateDir:
    """The files of one local pool."""

    def __init__(self, name: str, root: Path | None = None) -> None:
        """``root`` defaults to ``$XDG_STATE_HOME/orchestrator`` (``~/.local/state/...``).

        Raises:
            InputError: the name is not that of a directory in ``root``, such as ``..``.
        """
        if not name or name.startswith(".") or "\0" in name or Path(name).name != name:
            raise InputError(
                f"{name!r} cannot name a service on this machine; "
                "expected letters, digits and hyphens"
            )
        self.name = name
        self.root = root or _state_home() / "orchestrator"
        self.path = self.root / name

    @classmethod
    def at(cls, path: Path) -> StateDir:
        """The state directory at a path."""
        return cls(path.name, path.parent)

    @property
    def engine_logs(self) -> Path:
        """One directory per replica group."""
        return self.path / "engines"

    @property
    def supervisor_log(self) -> Path:
        """What the supervisor writes."""
        return self.path / "supervisor.log"

    @property
    def feedback_log(self) -> Path:
        """What clients said of answers, one JSON object a line."""
        return self.path / "feedback.jsonl"

    @property
    def arrivals(self) -> Path:
        """Where each ingress process tells how many requests have arrived at it."""
        return self.path / "arrivals"

    @property
    def scaling_journal(self) -> Path:
        """What the pool's own autoscaler decided, one JSON object a line."""
        return self.path / "scaling.jsonl"

    @property
    def scaling_state(self) -> Path:
        """What the pool's own autoscaler learned."""
        return self.path / "scaling.json"

    @property
    def autoscaler_task(self) -> Path:
        """What the pool's own autoscaler is to do: a `PlanRequest`."""
        return self.path / "autoscaler.yaml"

    @property
    def autoscaler_log(self) -> Path:
        """What the pool's own autoscaler writes."""
        return self.path / "autoscaler.log"

    def artefact(self, router: PlannedRouter) -> Path:
        """Where the pool's own copy of a router artefact is kept."""
        return self.path / f"router-{router.version}.npz"

    def keep_artefact(self, router: PlannedRouter, source: Path | None) -> None:
        """Copy the artefact, so that what is deployed does not change with the user's file.

        Raises:
            InputError: there is none, or it is not the one that the plan was made with.
        """
        kept = self.artefact(router)
        path = source or kept
        if not path.is_file():
            raise InputError(f"the plan needs the router artefact {router.version}; found none")
        content = read_bytes(path)
        found = hashlib.sha256(content).hexdigest()
        if found != router.sha256:
            raise InputError(f"{path}: found artefact {found[:12]}, expected {router.version}")
        if path != kept:
            documents.write_bytes(kept, content)

    @property
    def exists(self) -> bool:
        """Whether anything is left of a pool here."""
        return self._pid_file.exists()

    def request(
        self, plan: Plan, *, emulate: bool = False, autoscale: AutoscaleSettings | None = None
    ) -> PlanRequest:
        """Set the plan that the supervisor is to put in force; only commands do."""
        made = PlanRequest(id=uuid.uuid4().hex, plan=plan, emulate=emulate, autoscale=autoscale)
        documents.write(self._request_file, documents.dump(made))
        return made

    def read_request(self) -> PlanRequest:
        """The newest request.

        Raises:
            InputError: there is none that can be read.
        """
        return documents.read(self._request_file, PlanRequest)

    def scale(self, asked: ScaleRequest) -> None:
        """Set how many replicas the supervisor is to keep; only one autoscaler at a time does."""
        documents.write(self._scale_file, asked.model_dump_json())

    def read_scale(self) -> ScaleRequest | None:
        """How many replicas an autoscaler wants; None where none has said so."""
        try:
            return ScaleRequest.model_validate_json(self._scale_file.read_bytes())
        except (OSError, ValidationError):
            return None

    def forget_scale(self) -> None:
        """Go back to the plan's replicas."""
        self._scale_file.unlink(missing_ok=True)

    def write_in_force(self, plan: Plan) -> None:
        """Note the plan that is in force; only the supervisor does."""
        documents.write(self._in_force_file, documents.dump(plan))

    def read_in_force(self) -> Plan | None:
        """The plan that was in force last; None before the first."""
        exists = self._in_force_file.exists()
        return documents.read(self._in_force_file, Plan) if exists else None

    def write_status(self, status: Status) -> None:
        """Replace the status in one step."""
        documents.write(self._status_file, status.model_dump_json(indent=1))

    def read_status(self) -> Status | None:
        """The last status written; None when there is none, or an older version wrote it."""
        try:
            return Status.model_validate_json(self._status_file.read_bytes())
        except (OSError, ValidationError):
            return None

    def write_supervisor(self, process: ProcessId) -> None:
        """Note who keeps the pool."""
        documents.write(self._pid_file, process.model_dump_json())

    def supervisor(self) -> ProcessId | None:
        """The live process that keeps the pool; None when it is gone."""
        try:
            process = ProcessId.model_validate_json(self._pid_file.read_bytes())
        except (OSError, ValidationError):
            return None
        return process if process.alive else None

    def clear(self, *, keep_logs: bool) -> None:
        """Remove what a pool left here; the logs stay when they tell why it failed.

        A directory that holds nothing of a pool is left alone.
        """
        files = (self._pid_file, self._status_file, self._request_file, self._in_force_file)
        ours = any(file.exists() for file in (*files, self.supervisor_log))
        for file in (*files, *self.path.glob("router-*.npz")):
            file.unlink(missing_ok=True)
        if ours and not keep_logs:
            shutil.rmtree(self.path, ignore_errors=True)

    def newest_log(self, group: str) -> Path | None:
        """The engine log of a group that was written to last."""
        logs = [(p.stat().st_mtime, p) for p in (self.engine_logs / group).glob("*.log")]
        return max(logs)[1] if logs else None

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the pool's name against other commands.

        Raises:
            ClusterError: another command works on it.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        refusal = (
            f"another command is deploying or deleting {self.name!r}; "
            "wait for it to end, then try again"
        )
        with _locked(self.root / f".{self.name}.lock", refusal):
            yield

    @contextlib.contextmanager
    def autoscaler_lock(self) -> Iterator[None]:
        """Be the only autoscaler of the pool; given up with the process, however it ends.

        Raises:
            ClusterError: there is another one.
        """
        refusal = f"another autoscaler already works on {self.name!r}; end it first"
        with _locked(self.path / "autoscaler.lock", refusal):
            yield

    @property
    def _request_file(self) -> Path:
        return self.path / "request.yaml"

    @property
    def _scale_file(self) -> Path:
        return self.path / "scale.json"

    @property
    def _in_force_file(self) -> Path:
        return self.path / "in_force.yaml"

    @property
    def _status_file(self) -> Path:
        return self.path / "status.json"

    @property
    def _pid_file(self) -> Path:
        return self.path / "supervisor.pid"


@contextlib.contextmanager
def _locked(path: Path, refusal: str) -> Iterator[None]:
    with path.open("w") as f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ClusterError(refusal) from None
        yield


def running_names(root: Path | None = None) -> list[str]:
    """The pools on this machine whose keeper lives."""
    root = root or _state_home() / "orchestrator"
    paths = sorted(root.iterdir()) if root.is_dir() else []
    names = (p.name for p in paths if p.is_dir() and not p.name.startswith("."))
    return [name for name in names if StateDir(name, root).supervisor() is not None]


def _state_home() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
