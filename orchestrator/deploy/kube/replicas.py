"""Numbers of replicas as they stand in a RayService: what an autoscaler made of the plan's."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from manifests.network import BUDGET, least_available
from manifests.objects import GROUP_LABEL, PLAN_ANNOTATION, STEP_ANNOTATION, Object
from manifests.serve_config import ENGINE_DEPLOYMENT, app_names
from manifests.worker_groups import WorkerGroup, worker_groups
from placement.plan import Plan
from profiler.documents import dump_data

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def config_of(service: Mapping[str, Any]) -> Object:
    """Serve's config in a RayService; to be looked at, not changed."""
    return _parsed(service["spec"].get("serveConfigV2") or "applications: []")


@functools.lru_cache(16)
def _parsed(text: str) -> Object:
    found: Object = yaml.load(text, Loader=LOADER)
    return found


def names_of(service: Mapping[str, Any]) -> Mapping[str, str]:
    """The application of each replica group, by group."""
    return app_names(config_of(service))


def plan_of(service: Mapping[str, Any]) -> str | None:
    """The digest of the plan that a RayService is of; None while a deployment is at it, or where
    one was left half-way."""
    told = service["metadata"].get("annotations") or {}
    found: str | None = told.get(PLAN_ANNOTATION)
    return None if STEP_ANNOTATION in told else found


def replicas_of(service: Mapping[str, Any]) -> dict[str, int]:
    """Replicas by group, from Serve's config."""
    config = config_of(service)
    return {g: int(engine_in(config, app)["num_replicas"]) for g, app in app_names(config).items()}


def engine_in(config: Mapping[str, Any], app: str) -> Object:
    """The engines' deployment of an application in Serve's config."""
    found = next(a for a in config["applications"] if a["name"] == app)
    engine: Object = next(d for d in found["deployments"] if d["name"] == ENGINE_DEPLOYMENT)
    return engine


def as_scaled(plan: Plan, service: Mapping[str, Any]) -> Plan:
    """The plan with the numbers of replicas that are in force; its digest is another."""
    return _resized(plan, replicas_of(service))


def with_replicas(plan: Plan, service: Object, replicas: Mapping[str, int]) -> Object:
    """A RayService of a plan with other numbers of replicas, and pods to match."""
    made = copy.deepcopy(service)
    config = copy.deepcopy(config_of(service))
    names = app_names(config)
    for group, count in replicas.items():
        if group in names:
            engine_in(config, names[group])["num_replicas"] = count
    made["spec"]["serveConfigV2"] = dump_data(config)
    pods = pods_of(plan, replicas_of(made))
    for spec in _groups(made):
        if (count := pods.get(spec["groupName"], 0)) and count != spec.get("replicas"):
            spec["replicas"] = count
            spec["maxReplicas"] = max(count, int(spec.get("maxReplicas", 0)))
    return made


def as_it_runs(plan: Plan, objects: Sequence[Object], live: Object) -> list[Object]:
    """A plan's objects with the numbers that an autoscaler has set since that plan was deployed."""
    replicas = replicas_of(live)
    pods = pods_of(plan, replicas)

    def as_now(obj: Object) -> Object:
        if obj["kind"] == "RayService":
            return _no_less(with_replicas(plan, obj, replicas), live, pods)
        if obj["kind"] == BUDGET:
            worker = obj["spec"]["selector"]["matchLabels"][GROUP_LABEL]
            return with_budget(obj, pods[worker]) if worker in pods else obj
        return obj

    return [as_now(o) for o in objects]


def _no_less(service: Object, live: Object, pods: Mapping[str, int]) -> Object:
    """Limits that have grown stay."""
    most = {g["groupName"]: int(g.get("maxReplicas", 0)) for g in _groups(live)}
    for group in _groups(service):
        if (name := group["groupName"]) in pods:
            group["maxReplicas"] = max(int(group["maxReplicas"]), most.get(name, 0))
    return service


def _groups(service: Mapping[str, Any]) -> list[Object]:
    found: list[Object] = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    return found


def with_budget(budget: Object, pods: int) -> Object:
    """A disruption budget for another number of pods."""
    return budget | {"spec": budget["spec"] | {"minAvailable": least_available(pods)}}


def pods_of(plan: Plan, replicas: Mapping[str, int]) -> dict[str, int]:
    """Pods by worker group for numbers of replicas."""
    return {w.name: w.pods for w in worker_groups(_resized(plan, replicas))}


def worker_of(plan: Plan, group: str) -> WorkerGroup:
    """The worker group that hosts a replica group."""
    return next(w for w in worker_groups(plan) if group in [g.name for g in w.groups])


def _resized(plan: Plan, replicas: Mapping[str, int]) -> Plan:
    groups = tuple(
        g.model_copy(update={"replicas": replicas.get(g.name, g.replicas)}) for g in plan.groups
    )
    return plan.model_copy(update={"groups": groups})
