"""Pod templates of the head, the ingress and the engines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from manifests.objects import APP_LABEL, GROUP_LABEL, Naming, Object
from manifests.settings import KubernetesSettings, ModelCache, PodSize, SecretKey
from manifests.worker_groups import INGRESS, WorkerGroup
from placement.plan import Plan
from profiler.errors import InputError
from serve_apps.pool import CPU_OVERHEAD_BYTES, ENGINE_KEY, engine_settings

GPU_RESOURCE = {"nvidia": "nvidia.com/gpu", "amd": "amd.com/gpu"}
MODELS_PATH = "/models"
ROUTER_PATH = "/etc/llm-orchestrator/router"
KEYS_PATH = "/etc/llm-orchestrator/keys"
DOOR = "serve"
"""Name of the port at which clients come, in the ingress's pods.

The head names it too, though nobody listens there: without it the operator makes no Service for
Serve, and so never calls the RayService ready.
"""
READY_PATH = "/health/ready"
RAYLET_PATH = "/api/local_raylet_healthz"
AGENT_PORT = 52365
METRICS_PORT = 8080
DASHBOARD_PORT = 8265
OBJECT_STORE_BYTES = 256 * 2**20
"""Requests do not pass through Ray's object store; what is left is Serve's own."""
HEAD_PORTS = {"gcs-server": 6379, "dashboard": DASHBOARD_PORT, "client": 10001}
RAY_PARAMS = {"object-store-memory": str(OBJECT_STORE_BYTES)}
GRACE_S = 630
"""A pod that goes may finish its streams: Serve drains for up to ten minutes."""
CONTAINER = "ray"


def head_template(naming: Naming) -> Object:
    """The head: GCS, dashboard and Serve's controller; no engine and no ingress runs on it."""
    s = naming.settings
    ports = HEAD_PORTS | {DOOR: s.network.port}
    container = _container(s, s.head.cpu, s.head.memory, ports)
    container["livenessProbe"] = _alive("/api/gcs_healthz", DASHBOARD_PORT)
    spec = pod_spec(s, [container]) | off_spot(s)
    spec["serviceAccountName"] = naming.name("head" if s.autoscaling.in_tree else "")
    spec["automountServiceAccountToken"] = s.autoscaling.in_tree
    mount(spec, "shared-memory", "/dev/shm", _memory("1Gi"))
    return _template(naming, "head", spec)


def ingress_template(naming: Naming, router_map: str | None) -> Object:
    """The pods that answer clients; ``router_map`` is the ConfigMap of the router's artefact.

    The volume is optional and its name does not change with its content: a new artefact then
    needs no new pods.
    """
    s = naming.settings
    size: PodSize = s.ingress
    container = _container(s, size.cpu, size.memory, {DOOR: s.network.port})
    container["readinessProbe"] = _ready(READY_PATH, s.network.port)
    container["env"] += _engine_key(s)
    spec = pod_spec(s, [container], naming) | off_spot(s)
    mount(spec, "shared-memory", "/dev/shm", _memory("1Gi"))
    name = router_map or naming.name("router")
    mount(spec, "router", ROUTER_PATH, {"configMap": {"name": name, "optional": True}}, True)
    if s.api_keys is not None:
        secret = {"secret": {"secretName": s.api_keys.name, "defaultMode": 0o440}}
        mount(spec, "api-keys", KEYS_PATH, secret, True)
    spec["topologySpreadConstraints"] = [
        _spread(naming, INGRESS, "kubernetes.io/hostname"),
        _spread(naming, INGRESS, "topology.kubernetes.io/zone"),
    ]
    return _template(naming, INGRESS, spec)


def engine_template(naming: Naming, plan: Plan, group: WorkerGroup) -> Object:
    """A pod with the accelerators of a worker group, on nodes that have them.

    Raises:
        InputError: the node labels of its GPU type, or of spot nodes, are not known.
    """
    s = naming.settings
    size = s.engine_size(group.gpu.name)
    cpu, memory_gib = size.cpu * group.pod_gpus, size.memory_gib * group.pod_gpus
    if group.on_cpu:
        memory_gib = _cpu_memory_gib(plan, group)
    container = _container(s, f"{cpu:g}", f"{memory_gib:g}Gi", {})
    container["readinessProbe"] = _ready(RAYLET_PATH, AGENT_PORT)
    if resource := GPU_RESOURCE.get(group.gpu.vendor):
        for kind in ("requests", "limits"):
            container["resources"][kind][resource] = str(group.pod_gpus)
    spec = pod_spec(s, [container], naming)
    mount(
        spec, "shared-memory", "/dev/shm", _memory(f"{size.shared_memory_gib * group.pod_gpus:g}Gi")
    )
    mount(spec, "models", MODELS_PATH, _cache(naming))
    container["env"] += [
        env_value("HF_HOME", MODELS_PATH),
        env_value("XDG_CACHE_HOME", MODELS_PATH),
    ]
    if s.hf_token is not None:
        container["env"].append(env_secret("HF_TOKEN", s.hf_token))
    container["env"] += _engine_key(s)
    if selector := node_selector(s, group):
        spec["nodeSelector"] = selector
    spec["tolerations"] += _tolerations(s, group)
    if group.market != "spot":  # whose nodes could be taken from under it
        spec |= off_spot(s)
    # Whatever the count is: a template that changed with it would replace every pod.
    spec["topologySpreadConstraints"] = [_spread(naming, group.name, "topology.kubernetes.io/zone")]
    return _template(naming, group.name, spec)


def node_selector(settings: KubernetesSettings, group: WorkerGroup) -> dict[str, str]:
    """The node labels that a worker group's pods need.

    Raises:
        InputError: they are not known; the message says what to add to the settings.
    """
    selector = dict(settings.node_selectors.get(group.gpu.name, {}))
    if not selector and not group.on_cpu:
        label = settings.gpu_label
        value = group.gpu.node_labels.get(label)
        if value is None:
            raise InputError(
                f"GPU type {group.gpu.name!r}: its value of the node label {label!r} is not known; "
                f"add it to the settings: node_selectors: {{{group.gpu.name}: {{LABEL: VALUE}}}}"
            )
        selector[label] = value
    if group.market == "spot":
        if not settings.spot_node_labels:
            raise InputError(
                f"worker group {group.name!r} rents spot nodes, and how they are labelled is not "
                "known; add spot_labels to the settings, such as {karpenter.sh/capacity-type: spot}"
            )
        selector |= settings.spot_node_labels
    if group.region and settings.region_label:
        selector[settings.region_label] = group.region
    return selector


def _tolerations(settings: KubernetesSettings, group: WorkerGroup) -> list[Object]:
    found: list[Object] = []
    if resource := GPU_RESOURCE.get(group.gpu.vendor):
        found.append({"key": resource, "operator": "Exists", "effect": "NoSchedule"})
    if group.market == "spot":
        found += [
            {"key": k, "operator": "Equal", "value": v, "effect": "NoSchedule"}
            for k, v in settings.spot_node_labels.items()
        ]
    return found


def off_spot(settings: KubernetesSettings) -> Object:
    """An affinity to nodes that are not of the spot market, as far as those are known."""
    off = [
        {"key": k, "operator": "NotIn", "values": [v]} for k, v in settings.spot_node_labels.items()
    ]
    if not off:
        return {}
    terms = {"nodeSelectorTerms": [{"matchExpressions": off}]}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}


def _cpu_memory_gib(plan: Plan, group: WorkerGroup) -> float:
    """Memory of one engine without an accelerator, as the settings of its engine estimate it."""
    settings = engine_settings(plan, dict.fromkeys(plan.models, ""), "", ())
    largest = max(settings[g.name].memory_bytes for g in group.groups)
    return float(round((largest + CPU_OVERHEAD_BYTES) / 2**30 + 0.5))


def pod_spec(
    settings: KubernetesSettings, containers: list[Object], naming: Naming | None = None
) -> Object:
    """A pod without privileges; with ``naming`` under the service's own account."""
    spec: Object = {
        "containers": containers,
        "volumes": [],
        "tolerations": [t.model_dump(exclude_none=True) for t in settings.tolerations],
        "terminationGracePeriodSeconds": settings.drain_s + (GRACE_S if naming else 60),
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
    }
    if settings.run_as_user is not None:
        spec["securityContext"] |= {
            "runAsNonRoot": True,
            "runAsUser": settings.run_as_user,
            "fsGroup": settings.run_as_user,
            "fsGroupChangePolicy": "OnRootMismatch",  # not each file of the weights, each time
        }
    if settings.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": n} for n in settings.image_pull_secrets]
    if naming is not None:
        spec["serviceAccountName"] = naming.name()
        spec["automountServiceAccountToken"] = False
    return spec


def _container(
    settings: KubernetesSettings, cpu: str, memory: str, ports: Mapping[str, int]
) -> Object:
    ports = dict(ports) | {"metrics": METRICS_PORT}
    env = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serve_apps.proxy.middlewares",
        "VLLM_NO_USAGE_STATS": "1",
    } | settings.env
    return {
        "name": CONTAINER,
        "image": settings.image,
        "imagePullPolicy": settings.image_pull_policy,
        "ports": [{"name": n, "containerPort": p, "protocol": "TCP"} for n, p in ports.items()],
        "env": [env_value(k, v) for k, v in env.items()],
        "resources": {
            "requests": {"cpu": cpu, "memory": memory},
            "limits": {"memory": memory},
        },
        "volumeMounts": [],
        "securityContext": unprivileged(),
        # Kubernetes takes a pod out of its Services first, then waits for this.
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(settings.drain_s)]}}},
        "livenessProbe": _alive(RAYLET_PATH, AGENT_PORT),
    }


def unprivileged() -> Object:
    """The security context of a container, as the Pod Security Standard "restricted" wants it."""
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def _alive(path: str, port: int) -> Object:
    """Paths that Ray answers without a token; a minute of silence means dead."""
    probe = {"httpGet": {"path": path, "port": port}, "initialDelaySeconds": 60}
    return probe | {"periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6}


def _ready(path: str, port: int) -> Object:
    """Said for each worker, else the operator asks a proxy of Serve's, and there is none."""
    probe = {"httpGet": {"path": path, "port": port}, "initialDelaySeconds": 5}
    return probe | {"periodSeconds": 3, "timeoutSeconds": 3, "failureThreshold": 2}


def _engine_key(settings: KubernetesSettings) -> list[dict[str, Any]]:
    key = settings.engine_key
    return [env_secret(ENGINE_KEY, key)] if key is not None else []


def _template(naming: Naming, group: str, spec: Object) -> Object:
    """The operator's own Service for heads asks for its own value of `APP_LABEL`."""
    labels = {k: v for k, v in naming.labels.items() if k != APP_LABEL} | {GROUP_LABEL: group}
    return {"metadata": {"labels": labels}, "spec": spec}


def mount(spec: Object, name: str, path: str, volume: Object, read_only: bool = False) -> None:
    """Add a volume to a pod, and to its first container."""
    spec["volumes"].append({"name": name, **volume})
    at: Object = {"name": name, "mountPath": path}
    if read_only:
        at["readOnly"] = True
    spec["containers"][0]["volumeMounts"].append(at)


def _memory(size: str) -> Object:
    return {"emptyDir": {"medium": "Memory", "sizeLimit": size}}


def _cache(naming: Naming) -> Object:
    cache: ModelCache = naming.settings.model_cache
    if cache.kind == "empty_dir":
        return {"emptyDir": {"sizeLimit": cache.size}}
    if cache.kind == "host_path":
        return {"hostPath": {"path": cache.path, "type": "DirectoryOrCreate"}}
    claim = cache.existing_claim or naming.name("models")
    return {"persistentVolumeClaim": {"claimName": claim}}


def _spread(naming: Naming, group: str, topology: str) -> Object:
    return {
        "maxSkew": 1,
        "topologyKey": topology,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": naming.selector | {GROUP_LABEL: group}},
    }


def env_value(name: str, value: str) -> dict[str, Any]:
    """An environment variable."""
    return {"name": name, "value": value}


def env_secret(name: str, secret: SecretKey) -> dict[str, Any]:
    """An environment variable by reference."""
    ref = {"name": secret.name, "key": secret.key}
    return {"name": name, "valueFrom": {"secretKeyRef": ref}}
