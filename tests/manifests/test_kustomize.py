"""A kustomize base lists every object, and the example overlay changes what is there."""

from __future__ import annotations

import yaml

from manifests.bundle import render
from manifests.kustomize import kustomize_files
from tests import kube_builders as kb


def test_the_base_holds_every_object_as_it_was_rendered() -> None:
    objects = render(kb.plan(), kb.settings())
    files = kustomize_files(objects)
    listed = yaml.safe_load(files["base/kustomization.yaml"])["resources"]
    assert [yaml.safe_load(files[f"base/{name}"]) for name in listed] == objects


def test_serves_config_reads_line_by_line() -> None:
    (text,) = (
        t for n, t in kustomize_files(render(kb.plan(), kb.settings())).items() if "rayservice" in n
    )
    assert "serveConfigV2: |\n" in text
    assert "\n      - name: chat." in text


def test_the_overlay_patches_the_image_of_every_pod() -> None:
    objects = render(kb.plan(), kb.settings(autoscaler={}))
    overlay = yaml.safe_load(kustomize_files(objects)["overlays/example/kustomization.yaml"])
    service = next(o for o in objects if o["kind"] == "RayService")
    pods = 1 + len(service["spec"]["rayClusterConfig"]["workerGroupSpecs"])
    counts = {}
    for patch in overlay["patches"]:
        kind = patch["target"]["kind"]
        obj = next(o for o in objects if o["kind"] == kind)
        operations = yaml.safe_load(patch["patch"])
        counts[kind] = len(operations)
        for operation in operations:
            at: object = obj
            for part in operation["path"].strip("/").split("/"):
                at = at[int(part)] if isinstance(at, list) else at[part]  # type: ignore[index]
            assert at == operation["value"]
    assert counts == {"RayService": pods, "Deployment": 1}
