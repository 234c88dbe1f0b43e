"""Taking a service off a cluster, and leaving nothing."""

from __future__ import annotations

from collections.abc import Mapping

from manifests.objects import SERVICE_LABEL
from orchestrator.deploy.kube.api import OURS, KubeApi
from orchestrator.deploy.kube.pods import group_of
from orchestrator.deploy.kube.waiting import POLL_S, Waiting
from profiler.errors import ClusterError

DELETE_WAIT_S = 900.0
DELETING = Waiting(DELETE_WAIT_S)


def delete_kubernetes(api: KubeApi, name: str, waiting: Waiting = DELETING) -> bool:
    """Remove all that carries the service's label: the RayService first, and what its pods need to
    end well (policies, accounts, volumes) once they are gone.

    False where there was nothing. The namespace goes only if this service's deployment made
    it, and no other service is in it.

    Raises:
        ClusterError: refused, or pods are left after the time to wait.
    """
    labels = {SERVICE_LABEL: name}
    there = api.delete("RayService", name) if _is_ours(api, name) else False
    deadline_s = waiting.clock() + waiting.wait_s
    while left := _left_of(api, labels):
        if waiting.clock() > deadline_s:
            names = ", ".join(left)
            raise ClusterError(f"not gone after {waiting.wait_s:.0f} s: {names}")
        waiting.sleep(POLL_S)
    found = [(k, o["metadata"]["name"]) for k in OURS for o in api.list(k, labels)]
    for kind, each in found:
        api.delete(kind, each)
    space = api.get("Namespace", api.namespace) if there or found else None
    if space and space["metadata"].get("labels", {}).get(SERVICE_LABEL) == name:
        others = [o for o in api.list("RayService", {}) if o["metadata"]["name"] != name]
        if not others:
            api.delete("Namespace", api.namespace)
    return there or bool(found)


def _left_of(api: KubeApi, labels: Mapping[str, str]) -> list[str]:
    """Clusters and pods that the operator has still to remove; an autoscaler's pod carries the
    service's label too, and is its owner's to remove."""
    clusters = [f"RayCluster {o['metadata']['name']}" for o in api.list("RayCluster", labels)]
    pods = [f"pod {p['metadata']['name']}" for p in api.list("Pod", labels) if group_of(p)]
    return clusters + pods


def _is_ours(api: KubeApi, name: str) -> bool:
    service = api.get("RayService", name)
    labels = (service or {}).get("metadata", {}).get("labels") or {}
    return bool(labels.get(SERVICE_LABEL) == name)
