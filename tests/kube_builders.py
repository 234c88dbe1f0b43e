"""Plans and settings for Kubernetes with sensible defaults."""

from __future__ import annotations

from typing import Any

from manifests.settings import KubernetesSettings
from placement.plan import Plan, ReplicaGroup
from profiler.catalog import load_catalog
from tests import plan_builders


def group(name: str, gpu: str = "L4", replicas: int = 1, **changes: Any) -> ReplicaGroup:
    made = plan_builders.group(name, gpu=gpu, replicas=replicas)
    if tensor_parallel := changes.pop("tensor_parallel", None):
        config = made.config.model_copy(update={"tensor_parallel": tensor_parallel})
        changes["profile"] = made.profile.model_copy(update={"config": config})
    return made.model_copy(update=changes)


def plan(*groups: ReplicaGroup, **changes: Any) -> Plan:
    groups = groups or (group("chat"), group("large", "A100-80GB", 2))
    made = plan_builders.plan(groups)
    catalog = load_catalog()
    gpus = {n: catalog.gpus.get(n, g) for n, g in made.gpus.items()}
    known = {"gpus": gpus, "gateway": {"guard": {"allow_anonymous": True}}}
    return made.model_copy(update=known | changes)


def settings(**changes: Any) -> KubernetesSettings:
    return KubernetesSettings.model_validate({"image": "registry.example/llm:1"} | changes)
