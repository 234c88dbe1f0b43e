"""Pods of a running Ray cluster, brought to what a plan rents.

KubeRay takes the sizes of worker groups from the RayService when it makes a cluster, and not
again: they are no reason to change a cluster, so a running one must be told itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from manifests.objects import Object
from orchestrator.deploy.kube.api import KubeApi
from orchestrator.deploy.kube.changes import groups_of
from orchestrator.deploy.kube.errors import ApiError
from profiler.errors import ClusterError

SIZES = ("replicas", "minReplicas", "maxReplicas")


@dataclasses.dataclass(frozen=True)
class Resize:
    """New sizes of a worker group of one cluster."""

    cluster: str
    index: int
    group: str
    now: Mapping[str, int]
    then: Mapping[str, int]

    @property
    def reverse(self) -> Resize:
        """Back to what it was."""
        return dataclasses.replace(self, now=self.then, then=self.now)

    def operations(self) -> list[Object]:
        """As a JSON Patch; refused if the group is no longer where it was."""
        at = f"/spec/workerGroupSpecs/{self.index}"
        changed = {k: v for k, v in self.then.items() if self.now.get(k) != v}
        return [
            {"op": "test", "path": f"{at}/groupName", "value": self.group},
            *({"op": "add", "path": f"{at}/{k}", "value": v} for k, v in changed.items()),
        ]


def growth(cluster: Object, service: Object, *, in_tree: bool) -> list[Resize]:
    """What to set before waiting: limits that follow the plan, and more pods where it has more.

    With Ray's own autoscaler pods come and go with Serve's replicas; only limits are ours.
    """
    found = []
    for resize in _resizes(cluster, service):
        then = dict(resize.then)
        if in_tree or then["replicas"] <= resize.now["replicas"]:
            then["replicas"] = resize.now["replicas"]
            then["maxReplicas"] = max(then["maxReplicas"], then["replicas"])
        if then != resize.now:
            found.append(dataclasses.replace(resize, then=then))
    return found


def removals(cluster: Object, service: Object) -> list[Resize]:
    """Groups that the plan rents no more: nothing runs on their pods once it is in force."""
    return [r for r in _resizes(cluster, service) if r.then["replicas"] == 0 and r.then != r.now]


def surplus(cluster: Object, service: Object) -> list[str]:
    """Groups with more pods than the plan rents, where an engine may run on any of them."""
    return [
        f"{r.group} keeps {r.now['replicas'] - r.then['replicas']} pods that the plan has not"
        for r in _resizes(cluster, service)
        if 0 < r.then["replicas"] < r.now["replicas"]
    ]


def resize(api: KubeApi, wanted: Resize) -> None:
    """
    Raises:
        ClusterError: refused, or the cluster cannot be reached.
    """
    api.patch("RayCluster", wanted.cluster, wanted.operations())


def revert(api: KubeApi, done: list[Resize]) -> list[str]:
    """Take resizes back, newest first; what could not be is returned, a line each."""
    left = []
    while done:
        last = done.pop()
        try:
            resize(api, last.reverse)
        except ClusterError as error:
            if isinstance(error, ApiError) and error.status == 404:
                continue  # the cluster itself is gone
            left.append(f"worker group {last.group}: {error}")
    return left


def _resizes(cluster: Object, service: Object) -> list[Resize]:
    wanted = groups_of(service)
    name = cluster["metadata"]["name"]
    return [
        Resize(name, i, g["groupName"], _sizes(g), _sizes(wanted[g["groupName"]]))
        for i, g in enumerate(cluster["spec"].get("workerGroupSpecs", ()))
        if g["groupName"] in wanted
    ]


def _sizes(group: Mapping[str, Any]) -> dict[str, int]:
    defaults = {"replicas": 0, "minReplicas": 0, "maxReplicas": 2**31 - 1}
    return {k: int(group.get(k, defaults[k])) for k in SIZES}
