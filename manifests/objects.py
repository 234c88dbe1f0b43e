"""Names, labels and the outline that all rendered objects share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from manifests.settings import KubernetesSettings
from profiler.errors import InputError

Object = dict[str, Any]
"""A Kubernetes object as plain data."""

FIELD_MANAGER = "llm-orchestrator"
SERVICE_LABEL = "llm-orchestrator/service"
GROUP_LABEL = "llm-orchestrator/worker-group"
APP_LABEL = "app.kubernetes.io/name"
PLAN_ANNOTATION = "llm-orchestrator/plan-digest"
STEP_ANNOTATION = "llm-orchestrator/step"
"""On a RayService on its way from one plan to the next: which step it is at."""
MAX_NAME = 47
"""KubeRay's limit for a RayService's name; it appends to it for what it makes itself."""
LIMIT_BYTES = 1024 * 1024
"""Of a ConfigMap's data; larger objects do not fit etcd's default request size either."""


@dataclass(frozen=True)
class Naming:
    """How the objects of one service are called and found again."""

    service: str
    settings: KubernetesSettings
    digest: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def labels(self) -> dict[str, str]:
        """On every object; `SERVICE_LABEL` is what status and delete find them by."""
        return dict(self.settings.labels) | {
            APP_LABEL: "llm-orchestrator",
            "app.kubernetes.io/instance": self.service,
            "app.kubernetes.io/managed-by": FIELD_MANAGER,
            SERVICE_LABEL: self.service,
        }

    @property
    def selector(self) -> dict[str, str]:
        """Matches the service's pods and nothing else."""
        return {SERVICE_LABEL: self.service}

    def name(self, part: str = "") -> str:
        """The name of one of the service's objects."""
        return f"{self.service}-{part}" if part else self.service

    def object(self, api_version: str, kind: str, part: str = "", **body: Any) -> Object:
        """An object with this service's name, namespace and labels."""
        metadata: Object = {
            "name": self.name(part),
            "namespace": self.settings.namespace,
            "labels": self.labels,
        }
        return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **body}


def config_map(naming: Naming, part: str, data: Mapping[str, str], **more: Any) -> Object:
    """A ConfigMap.

    Raises:
        InputError: more than a ConfigMap holds.
    """
    size = sum(len(v.encode()) for v in data.values())
    if size > LIMIT_BYTES:
        raise InputError(
            f"ConfigMap {naming.name(part)!r} would hold {size / 2**20:.1f} MiB, "
            "Kubernetes allows 1 MiB"
        )
    return naming.object("v1", "ConfigMap", part, data=dict(data), **more)


def key_of(obj: Mapping[str, Any]) -> tuple[str, str]:
    """What tells an object from the others of a service: kind and name."""
    return obj["kind"], obj["metadata"]["name"]
