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
    objects = render(kb.plan(), kb.settings())
    overlay = yaml.safe_load(kustomize_files(objects)["overlays/example/kustomization.yaml"])
    service = next(o for o in objects if o["kind"] == "RayService")
    operations = yaml.safe_load(overlay["patches"][0]["patch"])
    cluster = service["spec"]["rayClusterConfig"]
    assert len(operations) == 1 + len(cluster["workerGroupSpecs"])
    for operation in operations:
        at: object = service
        for part in operation["path"].strip("/").split("/"):
            at = at[int(part)] if isinstance(at, list) else at[part]  # type: ignore[index]
        assert at == operation["value"]
