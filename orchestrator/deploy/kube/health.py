"""How a deployed service does, from what the cluster says of its RayService and pods."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from manifests.objects import SERVICE_LABEL, Object
from manifests.serve_config import INGRESS_APP
from manifests.worker_groups import INGRESS, WorkerGroup, worker_groups
from orchestrator.deploy.base import GroupState, GroupStatus, PoolState, Status
from orchestrator.deploy.kube.api import KubeApi
from orchestrator.deploy.kube.pods import Trouble, group_of, is_ready, started_s, trouble
from orchestrator.deploy.kube.replicas import as_scaled, names_of
from placement.plan import Plan

FAILED_APP = "DEPLOY_FAILED"
RUNNING = "RUNNING"


@dataclasses.dataclass(frozen=True)
class Seen:
    """The cluster's own account at one moment."""

    service: Object
    cluster: Object | None
    pods: tuple[Object, ...]
    names: Mapping[str, str] | None = None
    """The application of each group, where others than those that requests are routed to."""

    @property
    def status(self) -> Mapping[str, Any]:
        """Of the RayService."""
        return self.service.get("status") or {}

    @property
    def serving(self) -> Mapping[str, Any]:
        """Of the cluster that serves, or will: a new one beside the old goes before."""
        pending = self.status.get("pendingServiceStatus") or {}
        return pending if pending.get("rayClusterName") else self.active

    @property
    def active(self) -> Mapping[str, Any]:
        """Of the cluster that serves now."""
        return self.status.get("activeServiceStatus") or {}

    @property
    def apps(self) -> Mapping[str, Any]:
        """Of Serve's applications, by name."""
        return self.serving.get("applicationStatuses") or {}

    def app(self, group: str) -> Mapping[str, Any]:
        """What Serve says of a group's application, or of the ingress."""
        names = names_of(self.service) if self.names is None else self.names
        found: Mapping[str, Any] = self.apps.get(names.get(group, group)) or {}
        return found

    def ready_pods(self) -> Counter[str]:
        """Ready pods of the serving cluster by worker group."""
        return Counter(group_of(p) for p in self.pods if is_ready(p) and self._serves(p))

    def troubles(self) -> list[Trouble]:
        """What keeps pods of the serving cluster from running."""
        found = [trouble(p) for p in self.pods if self._serves(p)]
        return [t for t in found if t is not None]

    def _serves(self, pod: Mapping[str, Any]) -> bool:
        cluster = self.serving.get("rayClusterName")
        return not cluster or pod["metadata"].get("labels", {}).get("ray.io/cluster") == cluster


def look(api: KubeApi, name: str) -> Seen | None:
    """What the cluster says of a service; None where there is none.

    Raises:
        ClusterError: it cannot be asked.
    """
    service = api.get("RayService", name)
    if service is None:
        return None
    pods = tuple(p for p in api.list("Pod", {SERVICE_LABEL: name}) if group_of(p))
    seen = Seen(service, None, pods)
    cluster = seen.serving.get("rayClusterName")
    return dataclasses.replace(seen, cluster=api.get("RayCluster", cluster)) if cluster else seen


def is_healthy(seen: Seen, plan: Plan) -> bool:
    """Whether the plan is in force: taken up by the operator, all applications run, all pods for
    the replicas wanted now are there, and no other cluster is on its way."""
    observed = seen.status.get("observedGeneration", 0)
    if observed < seen.service["metadata"].get("generation", 0):
        return False
    if _condition(seen.service, "UpgradeInProgress").get("status") == "True":
        return False
    if seen.status.get("pendingServiceStatus", {}).get("rayClusterName"):
        return False
    ready = seen.ready_pods()
    return (
        _condition(seen.service, "Ready").get("status") == "True"
        and all(seen.app(n).get("status") == RUNNING for n in _names(plan))
        and all(ready[w.name] >= w.pods for w in worker_groups(as_scaled(plan, seen.service)))
    )


def final_fault(seen: Seen, plan: Plan) -> tuple[str, Trouble | None] | None:
    """Why waiting longer does not help, with the pod that it is about; None while it may."""
    if seen.cluster is not None:
        failure = _condition(seen.cluster, "ReplicaFailure")
        if failure.get("status") == "True":
            return f"pods cannot be made: {failure.get('message', '?')}", None
    for found in seen.troubles():
        if found.final:
            return f"{found.group}: pod {found.pod}: {found.message}", found
    for name in _names(plan):
        app = seen.app(name)
        if app.get("status") == FAILED_APP:
            return f"{name}: {_app_message(app)}", None
    return None


def waiting_for(seen: Seen, plan: Plan) -> list[str]:
    """What is not there yet, a line each: pods that found no node first, with how many GPUs."""
    ready, lines = seen.ready_pods(), []
    stuck: dict[str, list[Trouble]] = {}
    for found in seen.troubles():
        if found.unschedulable:
            stuck.setdefault(found.group, []).append(found)
    for worker in worker_groups(as_scaled(plan, seen.service)):
        if pods := stuck.pop(worker.name, None):
            lines.append(f"{_short(worker, len(pods))}: {pods[0].message}")
        elif ready[worker.name] < worker.pods:
            lines.append(f"{worker.name}: {ready[worker.name]} of {worker.pods} pods ready")
    lines += [f"{g}: {len(pods)} pods find no node: {pods[0].message}" for g, pods in stuck.items()]
    lines += [f"{t.group}: pod {t.pod} {t.message}" for t in seen.troubles() if t.crashed]
    for name in _names(plan):
        app = seen.app(name)
        if app.get("status") != RUNNING:
            lines.append(f"{name}: {app.get('status', 'not started')} {_app_message(app)}".strip())
    if not lines and (reason := _condition(seen.service, "Ready").get("message")):
        lines.append(reason)
    return lines


def _short(worker: WorkerGroup, pods: int) -> str:
    if worker.on_cpu:
        return f"{worker.name}: {pods} of {worker.pods} pods find no node"
    market = "spot" if worker.market == "spot" else "on-demand"
    return (
        f"{pods * worker.pod_gpus} x {worker.gpu.name} ({market}) short: {pods} of {worker.pods} "
        f"pods of {worker.name} find no node"
    )


def status_of(seen: Seen, plan: Plan, url: str, clock: Callable[[], float] = time.time) -> Status:
    """A service as `status` shows it.

    Serve tells the operator whether an application runs, not with how many replicas: a group is
    ready with all its replicas when it runs, else with none that is known of. Cost is that of the
    pods that run now, each from when a node took it.
    """
    now_s = clock()
    scaled = as_scaled(plan, seen.service)
    healthy = is_healthy(seen, plan)
    state: PoolState = "running" if healthy else "starting"
    ready_once = _condition(seen.service, "Ready").get("status") == "True"
    fault = None if healthy else final_fault(seen, plan)
    if fault:
        state = "failed" if not ready_once else "degraded"
    elif not healthy and ready_once:
        state = "updating"
    message = fault[0] if fault else "; ".join(waiting_for(seen, plan)) if not healthy else ""
    groups = [g for w in worker_groups(scaled) for g in _group_statuses(seen, w, now_s)]
    order = {g.name: i for i, g in enumerate(plan.groups)}
    planned = {g.name: g.replicas for g in plan.groups}
    groups = [
        g if g.wanted == planned[g.name] else g.model_copy(update={"planned": planned[g.name]})
        for g in groups
    ]
    return Status(
        name=seen.service["metadata"]["name"],
        state=state,
        message=message,
        url=url,
        plan_digest=plan.digest,
        groups=tuple(sorted(groups, key=lambda g: order[g.name])),
        updated_s=now_s,
    )


def _group_statuses(seen: Seen, worker: WorkerGroup, now_s: float) -> list[GroupStatus]:
    """The replica groups of a worker group; the cost of its pods by their share of GPUs."""
    pods = [p for p in seen.pods if group_of(p) == worker.name]
    hours = sum(max(0.0, now_s - s) for p in pods if (s := started_s(p)) is not None) / 3600
    running = sum(1 for p in pods if started_s(p) is not None)
    gpus = sum(g.replicas * g.config.tensor_parallel for g in worker.groups)
    made = []
    for group in worker.groups:
        app = seen.app(group.name)
        share = group.replicas * group.config.tensor_parallel / gpus
        runs = app.get("status") == RUNNING
        made.append(
            GroupStatus(
                name=group.name,
                model=group.config.model,
                gpu=group.config.gpu,
                wanted=group.replicas,
                ready=group.replicas if runs else 0,
                state=_state(app.get("status", "")),
                message=_app_message(app),
                usd_per_hour=round(share * running * worker.usd_per_hour, 4),
                usd_so_far=round(share * hours * worker.usd_per_hour, 4),
            )
        )
    return made


def _state(app_status: str) -> GroupState:
    states: dict[str, GroupState] = {
        RUNNING: "ready",
        FAILED_APP: "failed",
        "UNHEALTHY": "unhealthy",
        "DELETING": "stopping",
    }
    return states.get(app_status, "starting")


def _app_message(app: Mapping[str, Any]) -> str:
    deployments = (app.get("serveDeploymentStatuses") or {}).values()
    found = [d.get("message", "") for d in deployments if d.get("message")]
    return str(found[0] if found else app.get("message", "")).strip()


def _names(plan: Plan) -> Sequence[str]:
    return [*(g.name for g in plan.groups), INGRESS_APP]


def _condition(obj: Mapping[str, Any], kind: str) -> Object:
    found = (obj.get("status") or {}).get("conditions") or ()
    return next((c for c in found if c["type"] == kind), {})


__all__ = ["INGRESS", "Seen", "final_fault", "is_healthy", "look", "status_of", "waiting_for"]
