"""A pool on this machine as an autoscaler sees and changes it, through the files of its supervisor.

Nothing here imports Ray. What is known is in the pool's directory, not in this process: an
autoscaler that is killed and started again goes on from there.
"""

from __future__ import annotations

import json
import signal
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from orchestrator.autoscale.loop import OutOfStockError
from orchestrator.autoscale.pools import Bucket
from orchestrator.autoscale_targets import Target
from orchestrator.deploy.base import GroupStatus, ScaleRequest, Status
from orchestrator.deploy.preflight import more_that_fit
from orchestrator.deploy.same_plan import same_plan
from orchestrator.deploy.state import StateDir
from orchestrator.simulation.events import GroupState
from placement.plan import Plan
from profiler.errors import ClusterError, InputError

STALE_S = 15.0
"""What was last told longer ago is not known any more; all is told about once a second."""


class LocalActuator:
    """`orchestrator.autoscale.loop.Actuator` of a pool on this machine."""

    def __init__(
        self,
        state: StateDir,
        clock: Callable[[], float] = time.time,
        room: Callable[
            [Plan, str, Mapping[str, int], Mapping[str, int], bool], int
        ] = more_that_fit,
    ) -> None:
        """``room``: see `more_that_fit`."""
        self._state = state
        self._clock = clock
        self._room = room
        self._failed: dict[str, int] = {}

    def current(self) -> dict[str, GroupState]:
        """
        Raises:
            ClusterError: the pool is gone, not yet in force, or its supervisor is silent.
        """
        status = self._status()
        for g in status.groups:
            self._failed.setdefault(g.name, g.failed_starts)
        wanted = self._wanted(status)
        return {g.name: _seen(g, wanted[g.name]) for g in status.groups}

    def set(self, group: str, replicas: int) -> None:
        """
        Raises:
            OutOfStockError: they do not fit, or the last attempt to start one failed.
            ClusterError: as `current`.
        """
        status = self._status()
        wanted = self._wanted(status)
        now = next(g for g in status.groups if g.name == group)
        more = replicas - wanted[group]
        failed = now.failed_starts > self._failed.get(group, now.failed_starts)
        self._failed[group] = now.failed_starts
        if failed and more > 0:
            raise OutOfStockError(group, more)
        fit = more
        if more > 0:
            starting = {g.name: max(0, wanted[g.name] - g.ready) for g in status.groups}
            plan = self._state.read_in_force() or self._state.read_request().plan
            fit = min(more, max(0, self._room(plan, group, wanted, starting, status.emulated)))
        if fit != 0:
            self._ask(status, wanted | {group: wanted[group] + fit})
        if fit < more:
            raise OutOfStockError(group, more - fit)

    def _ask(self, status: Status, replicas: dict[str, int]) -> None:
        asked = ScaleRequest(id=uuid.uuid4().hex, request=status.request, replicas=replicas)
        try:
            self._state.scale(asked)
        except InputError as error:
            raise ClusterError(str(error)) from None
        supervisor = self._state.supervisor()
        if supervisor is not None:
            supervisor.send(signal.SIGHUP)

    def _status(self) -> Status:
        status = self._state.read_status()
        if status is None or self._state.supervisor() is None:
            raise ClusterError(f"no service {self._state.name!r} runs on this machine")
        if status.state not in ("running", "degraded"):
            raise ClusterError(f"{status.name} is {status.state}")
        if self._clock() - status.updated_s > STALE_S:
            raise ClusterError(f"{status.name}: its keeper has been silent for {STALE_S:.0f} s")
        return status

    def _wanted(self, status: Status) -> dict[str, int]:
        """What was asked for, as far as the supervisor has not said otherwise."""
        wanted = {g.name: g.wanted for g in status.groups}
        asked = self._state.read_scale()
        if asked is None or asked.request != status.request or asked.id == status.scale:
            return wanted
        return {name: asked.replicas.get(name, count) for name, count in wanted.items()}


def _seen(group: GroupStatus, wanted: int) -> GroupState:
    ready = min(group.ready, wanted)
    return GroupState(
        ready=ready,
        starting=wanted - ready,
        draining=group.draining + max(0, group.ready - wanted),
        in_flight=0,
        queued=0,
    )


class LocalMeter:
    """`orchestrator.autoscale.loop.Meter`: sums what all ingress processes of a pool have told."""

    def __init__(self, directory: Path, clock: Callable[[], float] = time.time) -> None:
        self._directory = directory
        self._clock = clock
        self._before: dict[int, dict[Bucket, float]] | None = None

    def arrivals(self) -> dict[Bucket, float] | None:
        """See `Meter`; None also at the first call, and at the first after any other None."""
        now = self._read()
        before, self._before = self._before, now
        if now is None or before is None:
            return None
        total: dict[Bucket, float] = {}
        for pid, counts in now.items():
            old = before.get(pid, {})
            if any(count < old.get(bucket, 0.0) for bucket, count in counts.items()):
                old = {}  # another process was given the number
            for bucket, count in counts.items():
                total[bucket] = total.get(bucket, 0.0) + count - old.get(bucket, 0.0)
        return total

    def _read(self) -> dict[int, dict[Bucket, float]] | None:
        """Counts by process; None where one that runs has not told for long, or none runs."""
        found, fresh = {}, False
        for path in self._directory.glob("[0-9]*.json"):
            try:
                told = json.loads(path.read_bytes())
                pid, at_s = int(told["pid"]), float(told["at_unix_s"])
                found[pid] = {(s, key): float(count) for s, key, count in told["counts"]}
            except (OSError, ValueError, KeyError, TypeError):
                return None
            if Path(f"/proc/{pid}").exists():
                if self._clock() - at_s > STALE_S:
                    return None
                fresh = True
        return found if fresh else None


def local_target(plan: Plan) -> Target:
    """The pool that runs a plan on this machine.

    Raises:
        ClusterError: none does, or it runs another plan.
    """
    return target_at(StateDir(plan.service), plan)


def target_at(state: StateDir, plan: Plan) -> Target:
    """The pool with this directory; raises as `local_target`."""
    status = state.read_status()
    if status is None or state.supervisor() is None:
        raise ClusterError(f"no service {state.name!r} runs on this machine; deploy the plan first")
    if not _runs(state, status, plan):
        raise ClusterError(f"{state.name!r} runs another plan; deploy this one first")
    return Target(
        LocalActuator(state),
        LocalMeter(state.arrivals),
        cold_start_s=status.started_in_s,
        hold=state.autoscaler_lock,
        apply=lambda other, directory: _applied(state, other, directory),
    )


def _runs(state: StateDir, status: Status, plan: Plan) -> bool:
    if status.plan_digest == plan.digest:
        return True
    asked = state.read_request().plan
    return asked.digest == status.plan_digest and same_plan(asked, plan)


def _applied(state: StateDir, plan: Plan, directory: Path) -> Target:
    """Another plan in force on the same port, with the same kind of engines; as a deploy does it.

    Raises:
        InputError: an artefact that it names is not in the directory.
        ClusterError: an engine did not start (the plan before runs on), or another deploys.
    """
    from orchestrator.deploy.local import deploy_local
    from orchestrator.learned_router import checked_artefact

    status = state.read_status()
    if status is None:
        raise ClusterError(f"no service {state.name!r} runs on this machine")
    deploy_local(
        plan,
        port=urlsplit(status.url).port or plan.targets.local.port,
        root=state.root,
        artefact=checked_artefact(plan, directory),
        emulate=status.emulated,
    )
    return target_at(state, plan)
