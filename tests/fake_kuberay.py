"""KubeRay's part in the test double: a RayCluster and pods for a RayService, and its status.

What it does follows the operator's code as read: a cluster takes over the RayService's worker
groups when it is made; later sizes do not reach it; appended groups do; any other change makes a
second cluster that replaces the first.
"""

from __future__ import annotations

import copy
import functools
from typing import Any

import yaml

from tests.fake_kubernetes import FakeKubernetes, Object

SIZES = ("replicas", "minReplicas", "maxReplicas")


class FakeKubeRay:
    """Acts whenever something was written, as a controller would."""

    def __init__(self, cluster: FakeKubernetes, service: str) -> None:
        self.cluster, self.service = cluster, service
        self.broken_pods: dict[str, Object] = {}
        """Pod status of every pod of a worker group, instead of a ready one."""
        self.failing_apps: dict[str, str] = {}
        self.failure = ""
        self.started = "2026-01-01T00:00:00Z"
        self._serial = 0
        cluster.after_write = self.reconcile

    def reconcile(self) -> None:
        service = self.cluster.get("RayService", self.service)
        if service is None:
            for kind in ("RayCluster", "Pod"):
                for name in self.cluster.names(kind):
                    self.cluster.delete((kind, "default", name))
            return
        cluster = self._cluster(service["spec"]["rayClusterConfig"])
        if cluster["spec"].get("enableInTreeAutoscaling"):
            self._autoscale(cluster, service["spec"]["rayClusterConfig"])
        self._pods(cluster)
        ready = not self.broken_pods and not self.failing_apps and not self.failure
        service["status"] = self._status(service, cluster, ready=ready)

    def _cluster(self, wanted: Object) -> Object:
        for name in self.cluster.names("RayCluster"):
            found = self.cluster.get("RayCluster", name)
            assert found is not None
            old, new = found["spec"]["workerGroupSpecs"], wanted["workerGroupSpecs"]
            same = _sizeless(old) == _sizeless(new[: len(old)]) and {
                k: v for k, v in found["spec"].items() if k != "workerGroupSpecs"
            } == {k: v for k, v in wanted.items() if k != "workerGroupSpecs"}
            if same:
                found["spec"]["workerGroupSpecs"] = old + copy.deepcopy(new[len(old) :])
                return found
            self.cluster.delete(("RayCluster", "default", name))
        self._serial += 1
        made: Object = {"apiVersion": "ray.io/v1", "kind": "RayCluster"}
        made["metadata"] = {"name": f"{self.service}-{self._serial}", "namespace": "default"}
        return self.cluster.put(made | {"spec": copy.deepcopy(wanted)})

    def _autoscale(self, cluster: Object, wanted: Object) -> None:
        """Ray's own autoscaler: as many pods as Serve's replicas need, within the limits."""
        needed = {g["groupName"]: g["replicas"] for g in wanted["workerGroupSpecs"]}
        for group in cluster["spec"]["workerGroupSpecs"]:
            most = max(group["maxReplicas"], group["minReplicas"])
            group["replicas"] = min(most, needed.get(group["groupName"], 0))

    def _pods(self, cluster: Object) -> None:
        cluster["status"] = {}
        if self.failure:
            failed = {"type": "ReplicaFailure", "status": "True", "message": self.failure}
            cluster["status"] = {"conditions": [failed]}
        for name in self.cluster.names("Pod"):
            self.cluster.delete(("Pod", "default", name))
        name = cluster["metadata"]["name"]
        for group in cluster["spec"]["workerGroupSpecs"]:
            for i in range(0 if self.failure else group["replicas"]):
                labels = group["template"]["metadata"]["labels"] | {"ray.io/cluster": name}
                meta = {"name": f"{group['groupName']}-{i}", "namespace": "default"}
                status = self.broken_pods.get(group["groupName"]) or self._ready()
                self.cluster.put({"kind": "Pod", "metadata": meta | {"labels": labels},
                                  "spec": {}, "status": status})  # fmt: skip

    def _ready(self) -> Object:
        return {
            "startTime": self.started,
            "conditions": [{"type": "Ready", "status": "True"}],
        }

    def _status(self, service: Object, cluster: Object, *, ready: bool) -> Object:
        states: dict[str, Any] = {
            name: {"status": "RUNNING" if ready else "DEPLOYING"}
            for name in _applications(service["spec"]["serveConfigV2"])
        }
        for name, message in self.failing_apps.items():
            states[name] = {"status": "DEPLOY_FAILED", "message": message}
        return {
            "observedGeneration": service["metadata"]["generation"],
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            "activeServiceStatus": {
                "rayClusterName": cluster["metadata"]["name"],
                "applicationStatuses": states,
            },
        }


@functools.lru_cache(64)
def _applications(config: str) -> tuple[str, ...]:
    return tuple(a["name"] for a in yaml.safe_load(config)["applications"])


def _sizeless(groups: list[Object]) -> list[Object]:
    return [{k: v for k, v in g.items() if k not in SIZES} for g in groups]


def unschedulable(message: str) -> Object:
    """The status of a pod that found no node."""
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    return {"phase": "Pending", "conditions": [condition | {"message": message}]}


def waiting(reason: str, message: str = "", **more: Any) -> Object:
    """The status of a pod whose container does not run."""
    state = {"waiting": {"reason": reason, "message": message}}
    container = {"name": "ray", "image": "x/y:1", "state": state} | more
    scheduled = {"type": "PodScheduled", "status": "True"}
    return {"phase": "Pending", "conditions": [scheduled], "containerStatuses": [container]}
