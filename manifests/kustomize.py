"""A plan's objects as a directory for GitOps: a kustomize base, and an overlay to start from."""

from __future__ import annotations

from collections.abc import Sequence

from manifests.objects import Object
from manifests.text import to_yaml

Files = dict[str, str]
"""File content by path relative to the directory, with forward slashes."""

HEADER = "# Rendered by `orchestrator render`; change the plan or the settings, and render again.\n"


def file_name(obj: Object) -> str:
    """``kind-name.yaml``, unique within a service."""
    return f"{obj['kind'].lower()}-{obj['metadata']['name']}.yaml"


def kustomize_files(objects: Sequence[Object]) -> Files:
    """``base`` with one file per object, and ``overlays/example``."""
    files = {f"base/{file_name(o)}": HEADER + to_yaml(o) for o in objects}
    base = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [file_name(o) for o in objects],
    }
    files["base/kustomization.yaml"] = HEADER + to_yaml(base)
    files["overlays/example/kustomization.yaml"] = _overlay(objects)
    return files


def _overlay(objects: Sequence[Object]) -> str:
    """Another image, as a start; kustomize does not find images in a RayService by itself."""
    service = next(o for o in objects if o["kind"] == "RayService")
    cluster = service["spec"]["rayClusterConfig"]
    image = cluster["headGroupSpec"]["template"]["spec"]["containers"][0]["image"]
    at = "/spec/rayClusterConfig/{}/template/spec/containers/0/image"
    paths = [at.format("headGroupSpec")]
    paths += [at.format(f"workerGroupSpecs/{i}") for i in range(len(cluster["workerGroupSpecs"]))]
    patches = [_patch(service, paths, image)] + [
        _patch(o, ["/spec/template/spec/containers/0/image"], image)
        for o in objects
        if o["kind"] == "Deployment"
    ]
    overlay = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": service["metadata"]["namespace"],
        "resources": ["../../base"],
        "patches": patches,
    }
    return "# An example: copy it, and put what differs from the base into it.\n" + to_yaml(overlay)


def _patch(obj: Object, paths: Sequence[str], image: str) -> Object:
    """A JSON patch of an object's images."""
    operations = [{"op": "replace", "path": p, "value": image} for p in paths]
    target = {"kind": obj["kind"], "name": obj["metadata"]["name"]}
    return {"target": target, "patch": to_yaml(operations)}
