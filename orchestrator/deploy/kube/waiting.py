"""Waiting until a plan is in force, or cannot be."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

from orchestrator.deploy.base import Progress, Status
from orchestrator.deploy.kube.api import KubeApi
from orchestrator.deploy.kube.health import (
    Seen,
    final_fault,
    is_healthy,
    look,
    status_of,
    waiting_for,
)
from placement.plan import Plan
from profiler.errors import ClusterError, EngineError

DEFAULT_WAIT_S = 1800.0
"""Nodes are bought, images pulled and weights loaded in this time."""
POLL_S = 2.0
PATIENCE = 3
"""A fault counts when it is seen this often in a row: statuses lag behind what was applied."""


@dataclasses.dataclass(frozen=True)
class Waiting:
    """How a command waits; a test passes its own clock."""

    wait_s: float = DEFAULT_WAIT_S
    on_progress: Progress = lambda _status: None
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


def until_healthy(api: KubeApi, plan: Plan, waiting: Waiting) -> Status:
    """Wait until a plan is in force, showing each change on the way.

    Raises:
        EngineError: waiting longer does not help; with the end of a crashed pod's log.
        ClusterError: the time is up, or the service is gone.
    """
    name = plan.service
    deadline_s = waiting.clock() + waiting.wait_s
    shown: object = None
    faults = 0
    while True:
        seen = look(api, name)
        if seen is None:
            raise ClusterError(f"RayService {name!r} was deleted by another meanwhile")
        status = status_of(seen, plan, url(seen), waiting.clock)
        unclocked = (status.state, status.message, [(g.ready, g.message) for g in status.groups])
        if unclocked != shown:
            shown = unclocked
            waiting.on_progress(status)
        if is_healthy(seen, plan):
            return status
        fault = final_fault(seen, plan)
        faults = faults + 1 if fault else 0
        if fault and faults >= PATIENCE:
            message, pod = fault
            crashed = pod is not None and pod.crashed
            tail = api.pod_log(pod.pod, previous=True) if pod is not None and crashed else ""
            raise EngineError(message, tail)
        if waiting.clock() > deadline_s:
            raise ClusterError(
                f"not healthy after {waiting.wait_s:.0f} s: {'; '.join(waiting_for(seen, plan))}; "
                "wait longer with --wait"
            )
        waiting.sleep(POLL_S)


def url(seen: Seen) -> str:
    """Base URL for clients inside the cluster."""
    metadata = seen.service["metadata"]
    groups = seen.service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    ports = groups[0]["template"]["spec"]["containers"][0].get("ports", ()) if groups else ()
    port = next((p["containerPort"] for p in ports if p.get("name") == "serve"), 8000)
    return f"http://{metadata['name']}.{metadata['namespace']}:{port}/v1"
