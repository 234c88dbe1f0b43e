"""Every Kubernetes object of a plan, as plain data, in the order in which they are applied."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from manifests.access import access
from manifests.autoscaler import autoscaler
from manifests.checks import check_all
from manifests.monitoring import monitoring
from manifests.network import client_service, disruption_budgets, network_policies
from manifests.objects import LIMIT_BYTES, PLAN_ANNOTATION, Naming, Object, config_map
from manifests.pods import ROUTER_PATH
from manifests.ray_service import ray_service
from manifests.settings import KubernetesSettings
from manifests.worker_groups import worker_groups
from placement.plan import Plan
from profiler.documents import dump
from profiler.errors import InputError
from profiler.files import read_bytes
from serve_apps.pool import RouterFiles

PLAN_FILE = "plan.yaml"


def render(
    plan: Plan,
    settings: KubernetesSettings,
    *,
    artefact: Path | None = None,
    before: Sequence[Object] = (),
    rule_groups: Sequence[Mapping[str, Any]] = (),
    dashboards: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Object]:
    """The objects that put a plan on a Kubernetes cluster with KubeRay.

    ``artefact`` is the file of the plan's learned router; ``before`` the worker groups of the
    RayService that is there, see `ray_service`; rules and dashboards as in `monitoring`.

    Raises:
        InputError: the settings lack something, or an object would be too large.
    """
    naming = Naming(plan.service, settings)
    _check_names(plan, settings)
    _check_scaled(plan, settings)
    router_map, files = _router(naming, plan, artefact)
    workers = worker_groups(plan)
    objects = [
        *_namespace(naming),
        *access(naming, [w.name for w in workers]),
        _plan_map(naming, plan),
        *router_map,
        *_claim(naming),
        *network_policies(naming),
        client_service(naming),
        *disruption_budgets(naming, workers),
        ray_service(naming, plan, files, before),
        *autoscaler(naming, plan, PLAN_FILE),
        *monitoring(naming, rule_groups, dashboards),
    ]
    check_all(objects)
    return objects


def _check_names(plan: Plan, settings: KubernetesSettings) -> None:
    known = set(plan.gpus)
    for part, names in (("node_selectors", settings.node_selectors), ("engines", settings.engines)):
        if unknown := next((n for n in names if n not in known), None):
            raise InputError(
                f"settings: {part}: the plan has no GPU type {unknown!r}; it has {', '.join(known)}"
            )


def _check_scaled(plan: Plan, settings: KubernetesSettings) -> None:
    chosen, known = settings.autoscaler, [g.name for g in plan.groups]
    for name in (*chosen.minimum, *chosen.maximum) if chosen is not None else ():
        if name not in known:
            raise InputError(
                f"settings: autoscaler: the plan has no group {name!r}; it has {', '.join(known)}"
            )


def _namespace(naming: Naming) -> list[Object]:
    if not naming.settings.create_namespace:
        return []
    made = naming.object("v1", "Namespace")
    made["metadata"] = {"name": naming.settings.namespace, "labels": naming.labels}
    return [made]


def _plan_map(naming: Naming, plan: Plan) -> Object:
    """The whole plan, for people and for the next deployment's difference."""
    made = config_map(naming, "plan", {PLAN_FILE: dump(plan)})
    made["metadata"]["annotations"] = {PLAN_ANNOTATION: plan.digest}
    return made


def _router(
    naming: Naming, plan: Plan, artefact: Path | None
) -> tuple[list[Object], RouterFiles | None]:
    """The learned router's artefact: in a ConfigMap, or where the settings say it is."""
    if plan.router is None:
        return [], None
    if path := naming.settings.router_artefact_path:
        return [], RouterFiles(artefact=path)
    if artefact is None:
        raise InputError(f"the plan needs the router artefact {plan.router.version}; found none")
    content = read_bytes(artefact)
    if hashlib.sha256(content).hexdigest() != plan.router.sha256:
        raise InputError(f"{artefact}: is not the artefact {plan.router.version} of the plan")
    if len(content) > LIMIT_BYTES:
        raise InputError(
            f"{artefact}: {len(content) / 2**20:.1f} MiB, a ConfigMap holds 1 MiB; put it into the "
            "image or a volume, and set router_artefact_path in the settings to its path there"
        )
    name = f"router-{plan.router.version}.npz"
    made = naming.object("v1", "ConfigMap", "router")
    made["binaryData"] = {name: base64.b64encode(content).decode("ascii")}
    return [made], RouterFiles(artefact=f"{ROUTER_PATH}/{name}")


def _claim(naming: Naming) -> list[Object]:
    cache = naming.settings.model_cache
    if cache.kind != "claim" or cache.existing_claim:
        return []
    spec: Object = {
        "accessModes": [cache.access_mode],
        "resources": {"requests": {"storage": cache.size}},
    }
    if cache.storage_class is not None:
        spec["storageClassName"] = cache.storage_class
    return [naming.object("v1", "PersistentVolumeClaim", "models", spec=spec)]
