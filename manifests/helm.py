"""A plan's objects as a thin Helm chart: rendered text with a few values left open.

What may differ between releases of one plan: image, namespace, pull policy and secrets, and
how many replicas each group has. All else comes from the plan: render again.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from manifests.kustomize import Files, file_name
from manifests.network import BUDGET
from manifests.objects import GROUP_LABEL, Object
from manifests.serve_config import INGRESS_APP, app_names
from manifests.settings import KubernetesSettings
from manifests.text import to_yaml
from manifests.worker_groups import INGRESS, WorkerGroup, worker_groups
from placement.plan import Plan

MARK = "HELM_VALUE_{}_END"
PULL_SECRETS = "[{{ range .Values.imagePullSecrets }}{ name: {{ . | quote }} },{{ end }}]"
MARKED = re.compile(r"""['"]?HELM_VALUE_(\d+)_END['"]?""")


class _Marks:
    """Template expressions by number: YAML is written with marks, and those replaced after."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def put(self, expression: str) -> str:
        """A mark for the value of an expression."""
        return self.text(f"{{{{ {expression} }}}}")

    def text(self, text: str) -> str:
        """A mark for template text."""
        self.texts.append(text)
        return MARK.format(len(self.texts) - 1)

    def fill(self, text: str) -> str:
        return MARKED.sub(lambda m: self.texts[int(m[1])], escaped(text))


def escaped(text: str) -> str:
    """Text that Helm gives back as it is: braces of dashboards and alerts are not its own."""
    return re.sub(r"\{\{|\}\}", lambda m: '{{ "' + m[0] + '" }}', text)


def helm_files(objects: Sequence[Object], plan: Plan, settings: KubernetesSettings) -> Files:
    """Chart.yaml, values.yaml, values.schema.json and a template per object."""
    values = default_values(plan, settings)
    chart = {
        "apiVersion": "v2",
        "name": plan.service,
        "description": f"The plan {plan.digest} of the service {plan.service}",
        "type": "application",
        "version": f"0.1.0+{plan.digest}",
        "appVersion": settings.ray_version,
    }
    files = {
        "Chart.yaml": to_yaml(chart),
        "values.yaml": to_yaml(values),
        "values.schema.json": json.dumps(values_schema(values), indent=2) + "\n",
    }
    for obj in objects:
        if obj["kind"] != "Namespace":  # helm install --create-namespace makes it
            files[f"templates/{file_name(obj)}"] = _template(obj, plan)
    return files


def default_values(plan: Plan, settings: KubernetesSettings) -> dict[str, Any]:
    """The values of the plan as it stands."""
    return {
        "image": settings.image,
        "imagePullPolicy": settings.image_pull_policy,
        "imagePullSecrets": list(settings.image_pull_secrets),
        "ingressReplicas": settings.ingress_replicas,
        "replicas": {g.name: g.replicas for g in plan.groups},
    }


def values_schema(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON Schema of the values; a misspelt one is refused."""
    count = {"type": "integer", "minimum": 1}
    groups = dict.fromkeys(values["replicas"], count)
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "additionalProperties": False,
        "required": list(values),
        "properties": {
            "image": {"type": "string", "minLength": 1, "pattern": r"^\S+$"},
            "imagePullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
            "imagePullSecrets": {"type": "array", "items": {"type": "string", "minLength": 1}},
            "ingressReplicas": count,
            "replicas": {
                "type": "object",
                "additionalProperties": False,
                "required": list(groups),
                "properties": groups,
            },
            "global": {"type": "object"},
        },
    }


def _template(obj: Object, plan: Plan) -> str:
    marks = _Marks()
    obj = copy.deepcopy(obj)
    obj["metadata"]["namespace"] = marks.put(".Release.Namespace")
    for subject in obj.get("subjects", ()):
        subject["namespace"] = marks.put(".Release.Namespace")
    if obj["kind"] == "RayService":
        _open(obj["spec"], plan, marks)
    if obj["kind"] == "Deployment":
        _open_image(obj["spec"]["template"], marks)
    if obj["kind"] == BUDGET:
        pods = _counts(plan)[obj["spec"]["selector"]["matchLabels"][GROUP_LABEL]]
        obj["spec"]["minAvailable"] = marks.put(f"max 0 (sub ({pods}) 1)")
    return marks.fill(to_yaml(obj))


def _open(spec: Object, plan: Plan, marks: _Marks) -> None:
    cluster = spec["rayClusterConfig"]
    groups = cluster["workerGroupSpecs"]
    for template in [cluster["headGroupSpec"]["template"], *(g["template"] for g in groups)]:
        _open_image(template, marks)
    counts = _counts(plan)
    for group in groups:
        if (count := counts.get(group["groupName"])) is not None:
            factor = group["maxReplicas"] / max(1, group["replicas"])
            group["replicas"] = marks.put(count)
            group["maxReplicas"] = marks.put(f"ceil (mulf {factor:g} ({count})) | int")
    spec["serveConfigV2"] = _open_replicas(spec["serveConfigV2"], plan, marks)


def _open_image(template: Object, marks: _Marks) -> None:
    container = template["spec"]["containers"][0]
    container["image"] = marks.put(".Values.image | quote")
    container["imagePullPolicy"] = marks.put(".Values.imagePullPolicy")
    template["spec"]["imagePullSecrets"] = marks.text(PULL_SECRETS)


def _counts(plan: Plan) -> dict[str, str]:
    """Pods of each worker group, as Helm reckons them."""
    counts = {INGRESS: ".Values.ingressReplicas"}
    return counts | {w.name: _pods(w) for w in worker_groups(plan)}


def _pods(worker: WorkerGroup) -> str:
    """Pods of a worker group from the replicas of its groups: GPUs, divided, rounded up."""
    gpus = " ".join(
        f"(mul (int {_replicas(g.name)}) {g.config.tensor_parallel})" for g in worker.groups
    )
    return f"div (add {worker.pod_gpus - 1} {gpus}) {worker.pod_gpus}"


def _replicas(group: str) -> str:
    return f'(index .Values.replicas "{group}")'


def _open_replicas(config: str, plan: Plan, marks: _Marks) -> str:
    """The first ``num_replicas`` after each application's name is its own."""
    names = app_names(yaml.safe_load(config))
    counts = {names[g.name]: f"int {_replicas(g.name)}" for g in plan.groups}
    counts[INGRESS_APP] = ".Values.ingressReplicas"
    parts = re.split(r"(?m)^(  - name: (\S+)$)", config)
    out = parts[0]
    for line, name, rest in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        before, key, after = rest.partition("num_replicas: ")
        count = after.partition("\n")[0]
        out += line + before + key + marks.put(counts[name]) + after.removeprefix(count)
    return out
