"""Rules that no schema states: what only KubeRay's operator refuses, and what must not leak.

The rules are those of the operator's own validation (KubeRay ``utils/validation.go``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from manifests.objects import MAX_NAME, Object, key_of
from profiler.errors import InputError

DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
LABEL_KEY = re.compile(
    r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?"
)
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?)?")
START_RESOURCES = ("num-cpus", "num-gpus", "memory", "resources")
UPGRADES = ("NewCluster", "NewClusterWithIncrementalUpgrade", "None")
TOKEN_SINCE = (2, 52, 0)
MAX_ACCOUNT = 50
"""Of the head, under Ray's autoscaler (KubeRay ``CheckName``)."""
SERVE_PORT = "serve"
"""Of the head: the operator makes Serve's Service from it, or none (``BuildServeService``)."""


def check_all(objects: Sequence[Object]) -> None:
    """
    Raises:
        InputError: what the operator would refuse, all of it in one message.
    """
    names = [key_of(o) for o in objects]
    found = [f"{kind} {name!r} twice" for kind, name in set(names) if names.count((kind, name)) > 1]
    for obj in objects:
        found += [f"label {k}={v!r} is not valid" for k, v in bad_labels(obj["metadata"])]
        if obj["kind"] == "RayService":
            found += ray_service_faults(obj)
    if found:
        raise InputError("\n".join(dict.fromkeys(found)))


def bad_labels(metadata: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Labels that the API server would refuse."""
    for key, value in metadata.get("labels", {}).items():
        if not LABEL_KEY.fullmatch(key) or not LABEL_VALUE.fullmatch(value):
            yield key, value


def ray_service_faults(obj: Mapping[str, Any]) -> list[str]:
    """What the KubeRay operator would refuse of a RayService, in words."""
    name, spec = obj["metadata"]["name"], obj["spec"]
    faults = []
    if len(name) > MAX_NAME or not DNS_1035.fullmatch(name):
        faults.append(f"RayService name {name!r}: at most {MAX_NAME} characters a-z, 0-9 and '-'")
    upgrade = spec.get("upgradeStrategy", {}).get("type", "NewCluster")
    if upgrade not in UPGRADES:
        faults.append(f"upgradeStrategy.type {upgrade!r}: expected one of {', '.join(UPGRADES)}")
    cluster = spec["rayClusterConfig"]
    faults += list(_cluster_faults(cluster))
    groups = cluster.get("workerGroupSpecs", [])
    names = [g["groupName"] for g in groups]
    faults += [f"worker group {n!r} twice" for n in set(names) if names.count(n) > 1]
    for where, group in [("head", cluster["headGroupSpec"]), *zip(names, groups, strict=True)]:
        faults += [f"{where}: {fault}" for fault in _group_faults(group)]
    if not any(p.get("name") == SERVE_PORT for p in _ports(cluster["headGroupSpec"])):
        faults.append(f"head: its container needs a port named {SERVE_PORT!r}")
    if upgrade == UPGRADES[1] and not cluster.get("enableInTreeAutoscaling"):
        faults.append(f"upgradeStrategy.type {upgrade}: needs Ray's own autoscaler")
    return faults


def _cluster_faults(cluster: Mapping[str, Any]) -> Iterator[str]:
    if cluster.get("authOptions", {}).get("mode", "token") != "token":
        yield "authOptions.mode: token authentication must be on"
    version = tuple(int(p) for p in re.findall(r"\d+", cluster.get("rayVersion", ""))[:3])
    if version < TOKEN_SINCE:
        yield f"rayVersion {cluster.get('rayVersion')!r}: tokens need 2.52.0 or later"
    head = cluster["headGroupSpec"]
    account = head["template"]["spec"].get("serviceAccountName", "")
    if cluster.get("enableInTreeAutoscaling") and len(account) > MAX_ACCOUNT:
        yield (
            f"head: its service account {account!r} would be clipped to {MAX_ACCOUNT} characters "
            "by the operator; give the service a shorter name"
        )
    if head.get("enableIngress") or head.get("serviceType", "ClusterIP") != "ClusterIP":
        yield "head: its Service would show the dashboard outside the cluster"
    if head.get("headService", {}).get("metadata", {}).get("name"):
        yield "head: headService.metadata.name must not be set"


def _ports(group: Mapping[str, Any]) -> list[Any]:
    containers = group["template"]["spec"].get("containers") or [{}]
    return list(containers[0].get("ports", ()))


def _group_faults(group: Mapping[str, Any]) -> Iterator[str]:
    start = group.get("rayStartParams", {})
    if group.get("resources") and (both := [k for k in START_RESOURCES if start.get(k)]):
        yield f"resources and rayStartParams.{both[0]} are both set"
    if "labels" in start:
        yield "rayStartParams.labels is refused; use labels"
    for key, value in group.get("labels", {}).items():
        if not LABEL_KEY.fullmatch(key) or not LABEL_VALUE.fullmatch(value):
            yield f"label {key}={value!r} is not valid"
    if not group["template"]["spec"].get("containers"):
        yield "has no container"
    low, high = group.get("minReplicas", 0), group.get("maxReplicas", 2**31 - 1)
    if not 0 <= low <= high:
        yield f"minReplicas {low} exceeds maxReplicas {high}"
    if not low <= group.get("replicas", low) <= high:
        yield f"replicas {group['replicas']} is not between {low} and {high}"
    name = group.get("groupName", "head")
    if len(name) > MAX_NAME or not DNS_1035.fullmatch(name):
        yield f"name: at most {MAX_NAME} characters a-z, 0-9 and '-'"
