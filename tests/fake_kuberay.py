"""KubeRay's part in the test double: a RayCluster and pods for a RayService, and its status.

What it does follows the operator's code as read: a cluster takes over the RayService's worker
groups when it is made; later sizes do not reach it; appended groups do, and with them all sizes;
any other change makes a second cluster that replaces the first. At each turn it asks Serve how its
applications are, then gives it a config that is new, then reports what it was told before that.
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
        self.suffix = ""
        """Of pods' names: others have others."""
        self.failing_apps: dict[str, str] = {}
        self.failure = ""
        self.draining = False
        """Pods that are to go finish their streams."""
        self.started = "2026-01-01T00:00:00Z"
        self.configs: list[str] = []
        """Each config that Serve was given."""
        self._serial = 0
        self._serve = ""
        cluster.after_write = self.reconcile
        self._looks = 0
        cluster.after_look = self._looked_at

    def reconcile(self) -> None:
        service = self.cluster.get("RayService", self.service)
        if service is None:
            for kind in () if self.draining else ("RayCluster", "Pod"):
                for name in self.cluster.names(kind):
                    self.cluster.delete((kind, "default", name))
            return
        cluster = self._cluster(service["spec"]["rayClusterConfig"])
        if cluster["spec"].get("enableInTreeAutoscaling"):
            self._autoscale(cluster, service["spec"]["rayClusterConfig"])
        self._pods(cluster)
        self._report()

    def _looked_at(self) -> None:
        """Its own turns are not so often that whoever looks sees what came of the last."""
        self._looks += 1
        if self._looks % 3 == 0:
            self._report()

    def _report(self) -> None:
        service = self.cluster.get("RayService", self.service)
        names = self.cluster.names("RayCluster")
        if service is None or not names:
            return
        cluster = self.cluster.get("RayCluster", names[-1])
        assert cluster is not None
        ready = not self.broken_pods and not self.failure
        ready &= _has_serve_port(cluster["spec"]["headGroupSpec"])
        service["status"] = self._status(service, cluster, ready=ready)
        if service["spec"]["serveConfigV2"] != self._serve:
            self._serve = service["spec"]["serveConfigV2"]
            self.configs.append(self._serve)

    def _cluster(self, wanted: Object) -> Object:
        for name in self.cluster.names("RayCluster"):
            found = self.cluster.get("RayCluster", name)
            assert found is not None
            old, new = found["spec"]["workerGroupSpecs"], wanted["workerGroupSpecs"]
            same = _sizeless(old) == _sizeless(new[: len(old)]) and {
                k: v for k, v in found["spec"].items() if k != "workerGroupSpecs"
            } == {k: v for k, v in wanted.items() if k != "workerGroupSpecs"}
            if same:
                if len(new) > len(old):  # all sizes are given anew, those that Ray set too
                    found["spec"]["workerGroupSpecs"] = copy.deepcopy(new)
                return found
            self.cluster.delete(("RayCluster", "default", name))
        self._serial += 1
        self._serve = ""
        made: Object = {"apiVersion": "ray.io/v1", "kind": "RayCluster"}
        service = self.cluster.get("RayService", self.service)
        assert service is not None
        made["metadata"] = {
            "name": f"{self.service}-{self._serial}",
            "namespace": "default",
            "labels": dict(service["metadata"].get("labels") or {}),
        }
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
                meta = {"name": f"{group['groupName']}-{i}{self.suffix}", "namespace": "default"}
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
            for name in _applications(self._serve)
        }
        for name in states if self._serve == service["spec"]["serveConfigV2"] else ():
            if message := self.failing_apps.get(name.partition(".")[0]):
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
    return tuple(a["name"] for a in (yaml.safe_load(config) or {}).get("applications", ()))


def _has_serve_port(head: Object) -> bool:
    """Without it the operator cannot make Serve's Service, and the RayService is never ready."""
    ports = head["template"]["spec"]["containers"][0].get("ports", ())
    return any(p.get("name") == "serve" for p in ports)


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
