"""Waiting until a plan is in force, or cannot be."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping

from orchestrator.deploy.base import Progress, Status
from orchestrator.deploy.kube.api import KubeApi
from orchestrator.deploy.kube.errors import passes
from orchestrator.deploy.kube.health import (
    Seen,
    final_fault,
    is_healthy,
    look,
    status_of,
    waiting_for,
)
from orchestrator.deploy.kube.pods import Trouble
from placement.plan import Plan
from profiler.errors import ClusterError, EngineError

DEFAULT_WAIT_S = 1800.0
"""Nodes are bought, images pulled and weights loaded in this time."""
POLL_S = 2.0
SETTLE_S = 8.0
"""The operator asks Serve every two seconds: after this it has, since it took a change up."""
ROOM_S = 600.0
"""So long a node may be on its way."""
AWAY_S = 180.0
"""So long the API server may be away while something is waited for: an upgrade takes minutes."""
PATIENCE = 3
"""A fault counts when it is seen this often in a row: statuses lag behind what was applied."""


@dataclasses.dataclass(frozen=True)
class Waiting:
    """How a command waits; a test passes its own clock."""

    wait_s: float = DEFAULT_WAIT_S
    on_progress: Progress = lambda _status: None
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


class NoRoomError(ClusterError):
    """Engines that are to start find no node while others that are to go hold theirs."""


@dataclasses.dataclass(frozen=True)
class Goal:
    """What is waited for: a plan in force, until a time (of the waiting's clock).

    ``names`` are the plan's applications where requests are not routed to them yet. ``settle`` for
    a change in a running cluster: the operator says that it took it up before it asks Serve again.
    ``room`` are worker groups whose pods may be in the way of new ones.
    """

    plan: Plan
    until_s: float
    names: Mapping[str, str] | None = None
    settle: bool = False
    room: frozenset[str] = frozenset()


def until_healthy(api: KubeApi, goal: Goal, waiting: Waiting) -> Status:
    """Wait until a plan is in force, showing each change on the way.

    Raises:
        EngineError: waiting longer does not help; with the end of a crashed pod's log.
        NoRoomError: pods found no node for `ROOM_S`, or a quota forbids them, where others may
            make room.
        ClusterError: the time is up, or the service is gone.
    """
    plan = goal.plan
    shown: object = None
    faults = 0
    crashes = Crashes(api)
    healthy_s = stuck_s = math.inf
    while True:
        seen = patient_look(api, plan.service, waiting)
        seen = dataclasses.replace(seen, names=goal.names)
        now_s = waiting.clock()
        status = status_of(seen, plan, url(seen), waiting.clock)
        unclocked = (status.state, status.message, [(g.ready, g.message) for g in status.groups])
        if unclocked != shown:
            shown = unclocked
            waiting.on_progress(status)
        healthy_s = min(healthy_s, now_s) if is_healthy(seen, plan) else math.inf
        if now_s - healthy_s >= (SETTLE_S if goal.settle else 0.0):
            return status
        stuck = {t.group for t in seen.troubles() if t.unschedulable}
        stuck_s = min(stuck_s, now_s) if stuck and stuck <= goal.room else math.inf
        if now_s - stuck_s >= ROOM_S:
            raise NoRoomError(f"no room beside old engines on {', '.join(sorted(stuck))}")
        fault = final_fault(seen, plan)
        faults = faults + 1 if fault else 0
        if fault and faults >= PATIENCE:
            message, pod = fault
            if goal.room and pod is None and "exceeded quota" in message:
                raise NoRoomError(f"no room beside old engines: {message}")
            raise EngineError(message, _tail(api, pod, previous=True) if pod is not None else "")
        crashes.check(seen)
        if now_s > goal.until_s and math.isinf(healthy_s):
            raise ClusterError(
                f"not healthy after {waiting.wait_s:.0f} s: {'; '.join(waiting_for(seen, plan))}; "
                "wait longer with --wait"
            )
        waiting.sleep(POLL_S)


class Crashes:
    """Pods that failed and were replaced by others, which fail in turn: no pod says so of itself.

    Each is looked at when it is seen first; its log goes with it.
    """

    def __init__(self, api: KubeApi) -> None:
        self._api = api
        self._pods: dict[str, dict[str, str]] = {}

    def check(self, seen: Seen) -> None:
        """
        Raises:
            EngineError: as many pods of a group have failed as are looked at; with the last log.
        """
        for found in seen.troubles():
            logs = self._pods.setdefault(found.group, {})
            if not found.crashed or found.final or found.pod in logs:
                continue
            logs[found.pod] = _tail(self._api, found, previous=False)
            if len(logs) >= PATIENCE:
                text = f"{found.group}: {len(logs)} pods in a row failed; {found.pod}"
                raise EngineError(f"{text} {found.message}", logs[found.pod])


def _tail(api: KubeApi, found: Trouble, *, previous: bool) -> str:
    if not found.crashed:
        return ""
    return api.pod_log(found.pod, found.crashed, previous=previous)


def patient_look(api: KubeApi, name: str, waiting: Waiting) -> Seen:
    """What the cluster says of a service, over a server that is away for a while.

    Raises:
        ClusterError: it is away for longer, refuses, or the service is gone.
    """
    until_s = waiting.clock() + AWAY_S
    while True:
        try:
            seen = look(api, name)
        except ClusterError as error:
            if not passes(error) or waiting.clock() > until_s:
                raise
            waiting.sleep(POLL_S)
            continue
        if seen is None:
            raise ClusterError(f"RayService {name!r} was deleted by another meanwhile")
        return seen


def url(seen: Seen) -> str:
    """Base URL for clients inside the cluster."""
    metadata = seen.service["metadata"]
    groups = seen.service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    ports = groups[0]["template"]["spec"]["containers"][0].get("ports", ()) if groups else ()
    port = next((p["containerPort"] for p in ports if p.get("name") == "serve"), 8000)
    return f"http://{metadata['name']}.{metadata['namespace']}:{port}/v1"
