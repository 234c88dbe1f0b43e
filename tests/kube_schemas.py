"""JSON Schemas of the objects we render: Kubernetes' own, and those of the custom resources.

Core objects are checked by the package kubernetes-validate, which carries Kubernetes' OpenAPI
schemas. The RayService schema is transcribed from the Go types of KubeRay (ray-project/kuberay,
``ray-operator/apis/ray/v1``, Apache-2.0, as of v1.6): the fields up to the pod template, which is
Kubernetes' own ``PodTemplateSpec``. PodMonitor and PrometheusRule are those fields of the
Prometheus operator's ``monitoring.coreos.com/v1`` that are in common use. No schema allows
properties that it does not name.
"""

from __future__ import annotations

import functools
import json
from typing import Any

import jsonschema
from kubernetes_validate.utils import schema_contents

KUBERNETES = "1.34.0"
Schema = dict[str, Any]


def fields(required: tuple[str, ...] = (), /, **properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def core(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def listed(item: Schema) -> Schema:
    return {"type": "array", "items": item}


TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
INT32: Schema = {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1}
TEXTS: Schema = {"type": "object", "additionalProperties": TEXT}
INT_OR_STRING: Schema = {"anyOf": [{"type": "integer"}, TEXT]}
POD_TEMPLATE = core("io.k8s.api.core.v1.PodTemplateSpec")
METADATA = core("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")
CREDENTIAL = fields(value=TEXT, valueFrom=core("io.k8s.api.core.v1.EnvVarSource"))

HEAD = fields(
    ("template",),
    template=POD_TEMPLATE,
    headService=core("io.k8s.api.core.v1.Service"),
    enableIngress=FLAG,
    resources=TEXTS,
    labels=TEXTS,
    rayStartParams=TEXTS,
    serviceType=TEXT,
)
WORKERS = fields(
    ("groupName", "minReplicas", "maxReplicas", "template"),
    suspend=FLAG,
    groupName=TEXT,
    replicas=INT32,
    minReplicas=INT32,
    maxReplicas=INT32,
    idleTimeoutSeconds=INT32,
    resources=TEXTS,
    labels=TEXTS,
    rayStartParams=TEXTS,
    template=POD_TEMPLATE,
    scaleStrategy=fields(workersToDelete=listed(TEXT)),
    numOfHosts=INT32,
)
AUTOSCALER = fields(
    resources=core("io.k8s.api.core.v1.ResourceRequirements"),
    image=TEXT,
    imagePullPolicy=TEXT,
    securityContext=core("io.k8s.api.core.v1.SecurityContext"),
    idleTimeoutSeconds=INT32,
    upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
    version={"enum": ["v1", "v2"]},
    env=listed(core("io.k8s.api.core.v1.EnvVar")),
    envFrom=listed(core("io.k8s.api.core.v1.EnvFromSource")),
    volumeMounts=listed(core("io.k8s.api.core.v1.VolumeMount")),
)
CLUSTER = fields(
    ("headGroupSpec",),
    upgradeStrategy=fields(type={"enum": ["Recreate", "None"]}),
    authOptions=fields(
        enableK8sTokenAuth=FLAG, secretName=TEXT, mode={"enum": ["disabled", "token"]}
    ),
    suspend=FLAG,
    managedBy=TEXT,
    autoscalerOptions=AUTOSCALER,
    headServiceAnnotations=TEXTS,
    enableInTreeAutoscaling=FLAG,
    gcsFaultToleranceOptions=fields(
        redisUsername=CREDENTIAL,
        redisPassword=CREDENTIAL,
        externalStorageNamespace=TEXT,
        redisAddress=TEXT,
    ),
    headGroupSpec=HEAD,
    rayVersion=TEXT,
    workerGroupSpecs=listed(WORKERS),
)
RAY_SERVICE = fields(
    ("rayClusterConfig",),
    rayClusterDeletionDelaySeconds={"type": "integer", "minimum": 0},
    serviceUnhealthySecondThreshold=INT32,
    deploymentUnhealthySecondThreshold=INT32,
    serveService=core("io.k8s.api.core.v1.Service"),
    upgradeStrategy=fields(
        type=TEXT,
        clusterUpgradeOptions=fields(
            ("stepSizePercent", "intervalSeconds", "gatewayClassName"),
            maxSurgePercent=INT32,
            stepSizePercent=INT32,
            intervalSeconds=INT32,
            gatewayClassName=TEXT,
        ),
    ),
    serveConfigV2=TEXT,
    rayClusterConfig=CLUSTER,
    excludeHeadPodFromServeSvc=FLAG,
)
SECRET_KEY = "io.k8s.api.core.v1.SecretKeySelector"
SELECTOR = core("io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector")
POD_MONITOR = fields(
    ("podMetricsEndpoints", "selector"),
    selector=SELECTOR,
    jobLabel=TEXT,
    podTargetLabels=listed(TEXT),
    namespaceSelector=fields(any=FLAG, matchNames=listed(TEXT)),
    podMetricsEndpoints=listed(
        fields(
            port=TEXT,
            path=TEXT,
            scheme=TEXT,
            interval=TEXT,
            scrapeTimeout=TEXT,
            honorLabels=FLAG,
            portNumber=INT32,
            authorization=fields(type=TEXT, credentials=core(SECRET_KEY)),
        )
    ),
)
RULE = fields(
    ("expr",),
    alert=TEXT,
    record=TEXT,
    expr=INT_OR_STRING,
    **{"for": TEXT, "labels": TEXTS, "annotations": TEXTS, "keep_firing_for": TEXT},
)
PROMETHEUS_RULE = fields(
    groups=listed(
        fields(("name",), name=TEXT, interval=TEXT, limit={"type": "integer"}, rules=listed(RULE))
    )
)
CUSTOM = {
    "RayService": RAY_SERVICE,
    "RayCluster": CLUSTER,
    "PodMonitor": POD_MONITOR,
    "PrometheusRule": PROMETHEUS_RULE,
}


CORE = {
    "Namespace": "io.k8s.api.core.v1.Namespace",
    "ServiceAccount": "io.k8s.api.core.v1.ServiceAccount",
    "ConfigMap": "io.k8s.api.core.v1.ConfigMap",
    "Service": "io.k8s.api.core.v1.Service",
    "Deployment": "io.k8s.api.apps.v1.Deployment",
    "PersistentVolumeClaim": "io.k8s.api.core.v1.PersistentVolumeClaim",
    "Role": "io.k8s.api.rbac.v1.Role",
    "RoleBinding": "io.k8s.api.rbac.v1.RoleBinding",
    "NetworkPolicy": "io.k8s.api.networking.v1.NetworkPolicy",
    "PodDisruptionBudget": "io.k8s.api.policy.v1.PodDisruptionBudget",
}


@functools.cache
def definitions() -> Schema:
    name = "kubernetes-json-schema/v1.34.0-local-strict/_definitions.json"
    found: Schema = schema_contents(name, KUBERNETES)["$defs"]
    return found


@functools.cache
def validator(kind: str) -> jsonschema.Draft202012Validator:
    if kind in CORE:
        return jsonschema.Draft202012Validator(core(CORE[kind]) | {"$defs": definitions()})
    whole = fields(
        ("apiVersion", "kind", "metadata"),
        apiVersion=TEXT,
        kind={"const": kind},
        metadata=METADATA,
        spec=CUSTOM[kind],
        status={"type": "object"},
    )
    return jsonschema.Draft202012Validator(whole | {"$defs": definitions()})


def faults(obj: dict[str, Any]) -> list[tuple[str, str]]:
    """What an object's schema says against it: a path such as ``.spec.x``, and why."""
    return list(_faults(json.dumps(obj)))


@functools.lru_cache(256)
def _faults(text: str) -> tuple[tuple[str, str], ...]:
    obj = json.loads(text)
    errors = validator(obj["kind"]).iter_errors(obj)
    return tuple(("." + ".".join(map(str, e.absolute_path)), e.message) for e in errors)
