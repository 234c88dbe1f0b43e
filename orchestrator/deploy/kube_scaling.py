"""A service on Kubernetes as an autoscaler sees and changes it: its RayService, through the API.

Numbers of replicas are in Serve's config, which the operator puts in force in place; worker groups
are made as large as these need. Both are written in one server-side apply of what we applied
before, on condition that nobody has written since. Serve's config knows no application without
replicas, so a group keeps one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from manifests.network import BUDGET
from manifests.objects import Object
from manifests.serve_config import INGRESS_APP
from manifests.worker_groups import INGRESS, worker_groups
from orchestrator.autoscale_targets import Target
from orchestrator.deploy.kube import resizing
from orchestrator.deploy.kube.api import KubeApi
from orchestrator.deploy.kube.errors import ApiError
from orchestrator.deploy.kube.health import Seen, look
from orchestrator.deploy.kube.owned import owned
from orchestrator.deploy.kube.pods import group_of, is_ready
from orchestrator.deploy.kube.replicas import (
    config_of,
    plan_of,
    pods_of,
    replicas_of,
    with_budget,
    with_replicas,
    worker_of,
)
from orchestrator.deploy.kubernetes import deployed_plan
from orchestrator.deploy.ray_scaling import RayMeter
from orchestrator.deploy.same_plan import same_plan
from orchestrator.simulation.events import GroupState
from placement.plan import Plan
from profiler.errors import ClusterError

TRIES = 3
NAMESPACE_VARIABLE = "ORCHESTRATOR_NAMESPACE"
OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
CONFLICT = 409


class KubeActuator:
    """`orchestrator.autoscale.loop.Actuator` of a service on Kubernetes.

    Serve tells the operator no numbers: replicas are ready as far as ready pods have room for
    them. Pods that are to go (a drained node, a reclaimed spot machine) are not ready, so what
    replaces them starts. Pods that find no node are replicas that start, and are given up as out
    of stock when that takes too long.
    """

    def __init__(self, api: KubeApi, plan: Plan) -> None:
        self._api = api
        self._plan = plan
        self._workers = worker_groups(plan)

    def current(self) -> dict[str, GroupState]:
        """
        Raises:
            ClusterError: the cluster cannot be asked, or runs another plan.
        """
        seen = self._look()
        wanted, ready = replicas_of(seen.service), seen.ready_pods()
        found: dict[str, GroupState] = {}
        for worker in self._workers:
            leaving = sum(
                group_of(p) == worker.name and bool(p["metadata"].get("deletionTimestamp"))
                for p in seen.pods
            )
            room = ready[worker.name] * worker.pod_gpus
            for group in worker.groups:
                gpus = group.config.tensor_parallel
                count = wanted.get(group.name, group.replicas)
                there = min(count, room // gpus)
                room -= there * gpus
                starting = count - there
                found[group.name] = GroupState(there, starting, leaving, in_flight=0, queued=0)
                leaving = 0
        return found

    def set(self, group: str, replicas: int) -> None:
        """
        Raises:
            ClusterError: as `current`; refused; or others change the service each time.
        """
        for _ in range(TRIES):
            seen = self._look()
            try:
                service = self._api.apply(self._resized(seen.service, group, max(1, replicas)))
                break
            except ApiError as error:
                if error.status != CONFLICT:
                    raise
                last = error
        else:
            raise ClusterError(f"{self._plan.service!r} is changed by another too: {last}")
        if seen.cluster is not None:
            in_tree = bool(service["spec"]["rayClusterConfig"].get("enableInTreeAutoscaling"))
            for wanted in resizing.growth(seen.cluster, service, in_tree=in_tree):
                resizing.resize(self._api, wanted)
        self._budget(worker_of(self._plan, group).name, pods_of(self._plan, replicas_of(service)))

    def _budget(self, worker: str, pods: Mapping[str, int]) -> None:
        """Let one pod of a worker group go at a time, of those that there are to be now."""
        live = self._api.get(BUDGET, f"{self._plan.service}-{worker}")
        part = owned(live) if live is not None else None
        if part is not None and "spec" in part:
            self._api.apply(with_budget(part, pods[worker]))

    def _resized(self, service: Object, group: str, replicas: int) -> Object:
        """What we applied of the RayService, with another number of replicas and of pods."""
        part = owned(service) or {}
        if "serveConfigV2" not in part.get("spec", {}):
            raise ClusterError(
                f"Serve's config of RayService {self._plan.service!r} is another's field; deploy "
                "the plan again with --force-conflicts"
            )
        part["metadata"]["resourceVersion"] = service["metadata"]["resourceVersion"]
        return with_replicas(self._plan, part, {group: replicas})

    def _look(self) -> Seen:
        name = self._plan.service
        seen = look(self._api, name)
        if seen is None:
            raise ClusterError(f"no service {name!r} runs in namespace {self._api.namespace!r}")
        if plan_of(seen.service) != self._plan.digest:
            raise ClusterError(
                f"{name!r} runs another plan, or one is being put in force; deploy this one first"
            )
        return seen

    def ingress_urls(self) -> list[str]:
        """Where the pods of the ingress listen.

        Raises:
            ClusterError: as `current`.
        """
        seen = self._look()
        config = config_of(seen.service)
        front = next(a for a in config["applications"] if a["name"] == INGRESS_APP)
        port = (front.get("args") or {}).get("port", 8000)
        pods = [p for p in seen.pods if group_of(p) == INGRESS and is_ready(p)]
        return [f"http://{ip}:{port}" for p in pods if (ip := p["status"].get("podIP"))]


def kubernetes_target(plan: Plan) -> Target:
    """The service that runs a plan in the namespace that ``ORCHESTRATOR_NAMESPACE`` names; else in
    this pod's own, or ``default``.

    Raises:
        ClusterError: no cluster is configured, none runs there, or it runs another plan.
    """
    return target_at(KubeApi.connect(_namespace()), plan)


def target_at(api: KubeApi, plan: Plan) -> Target:
    """The service that runs a plan where an API leads to; raises as `kubernetes_target`."""
    service = api.get("RayService", plan.service)
    if service is not None and plan_of(service) != plan.digest:
        running = deployed_plan(api, plan.service)
        plan = running if same_plan(running, plan) else plan
    actuator = KubeActuator(api, plan)
    actuator.current()
    return Target(actuator, RayMeter(actuator.ingress_urls), least=1)


def _namespace() -> str:
    if named := os.environ.get(NAMESPACE_VARIABLE):
        return named
    try:
        return OWN_NAMESPACE.read_text(encoding="utf-8").strip()
    except OSError:
        return "default"
