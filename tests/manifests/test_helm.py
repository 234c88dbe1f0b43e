"""A chart renders to the plan's own objects, and to others only as its values say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from manifests.bundle import render
from manifests.helm import default_values, escaped, helm_files, values_schema
from manifests.kustomize import Files
from tests import kube_builders as kb
from tests.kube_schemas import faults

PLAN = kb.plan(kb.group("chat"), kb.group("large", "H100", 3, tensor_parallel=2, node_gpus=8))
SETTINGS = kb.settings(image_pull_secrets=["registry"], autoscaler={})
ALERT = {"expr": "up", "alert": "A", "annotations": {"t": "{{ $value }}"}}
RULES = [{"name": "a", "rules": [ALERT]}]
OBJECTS = render(PLAN, SETTINGS, rule_groups=RULES)


def files() -> Files:
    return helm_files(OBJECTS, PLAN, SETTINGS)


def chart(tmp_path: Path) -> Any:
    helm = pytest.importorskip("helm_python", reason="no Helm here (package helm-python-sdk)")
    for name, text in files().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert helm.lint(str(tmp_path))["errors"] == []
    return helm.Chart.load(str(tmp_path))


def rendered(tmp_path: Path, **values: Any) -> dict[tuple[str, str], Any]:
    texts = chart(tmp_path).render(values or None, namespace="default").values()
    objects = [yaml.safe_load(t) for t in texts]
    return {(o["kind"], o["metadata"]["name"]): o for o in objects}


def test_the_schema_takes_the_default_values_and_refuses_misspelt_ones() -> None:
    values = yaml.safe_load(files()["values.yaml"])
    schema = json.loads(files()["values.schema.json"])
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.validate(values, schema)
    for wrong in (
        values | {"imag": "x"},
        values | {"image": ""},
        values | {"replicas": {"chat": 0, "large": 1}},
        values | {"replicas": {"chat": 1}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)
    assert schema == values_schema(default_values(PLAN, SETTINGS))


def test_every_open_value_is_used_by_a_template_and_no_mark_is_left() -> None:
    text = "".join(t for n, t in files().items() if n.startswith("templates/"))
    for name in default_values(PLAN, SETTINGS):
        assert f".Values.{name}" in text
    assert "HELM_VALUE" not in text


def test_braces_of_alerts_are_not_helms() -> None:
    assert escaped("{{ $value }}") == '{{ "{{" }} $value {{ "}}" }}'


def test_helm_renders_the_plans_own_objects(tmp_path: Path) -> None:
    found = rendered(tmp_path)
    assert found == {(o["kind"], o["metadata"]["name"]): o for o in OBJECTS}


def test_helm_counts_pods_from_replicas(tmp_path: Path) -> None:
    found = rendered(tmp_path, image="other:2", replicas={"chat": 4, "large": 5})
    service = found["RayService", "demo"]
    assert faults(service) == []
    groups = {g["groupName"]: g for g in service["spec"]["rayClusterConfig"]["workerGroupSpecs"]}
    assert groups["l4-1x"]["replicas"] == 4
    assert groups["l4-1x"]["maxReplicas"] == 8
    assert found["PodDisruptionBudget", "demo-l4-1x"]["spec"]["minAvailable"] == 3
    assert groups["h100-8x"]["replicas"] == 2  # five replicas of two GPUs on nodes of eight
    apps = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]
    assert [a["deployments"][0]["num_replicas"] for a in apps] == [4, 5, 2]
    assert "other:2" in json.dumps(service)
    assert "registry.example/llm:1" not in json.dumps(service)


def test_helm_refuses_values_outside_the_schema(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="imag"):
        rendered(tmp_path, imag="x")
