"""Where the settings of the Kubernetes target are read from."""

from __future__ import annotations

from pathlib import Path

from manifests.settings import KubernetesSettings
from profiler import documents
from profiler.errors import InputError

BESIDE_PLAN = "kubernetes.yaml"


def read_settings(plan: Path, path: Path | None) -> KubernetesSettings:
    """The file given, else ``kubernetes.yaml`` beside the plan.

    Raises:
        InputError: there is none, or it is wrong; with line and key.
    """
    found = path or plan.parent / BESIDE_PLAN
    if path is None and not found.exists():
        raise InputError(
            f"{found}: no settings for Kubernetes; write one with at least 'image: NAME', or name "
            "another file with --settings"
        )
    return documents.read(found, KubernetesSettings)
