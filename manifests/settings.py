"""What a plan does not say about the Kubernetes cluster it is put on: one settings file.

Secrets are never written here: settings name a Secret that exists in the namespace, and its key.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from profiler.core import Count, Noun, Positive

DnsLabel = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$")]
Port = Annotated[int, Field(ge=1, le=65535)]

Cloud = Literal["gke", "eks", "generic"]

GPU_LABELS: dict[Cloud, str] = {
    "gke": "cloud.google.com/gke-accelerator",
    "eks": "nvidia.com/gpu.product",
    "generic": "nvidia.com/gpu.product",
}
"""The node label that tells the accelerator: GKE's own, else NVIDIA GPU feature discovery's."""

SPOT_LABELS: dict[Cloud, dict[str, str]] = {
    "gke": {"cloud.google.com/gke-spot": "true"},
    "eks": {"eks.amazonaws.com/capacityType": "SPOT"},
    "generic": {},
}
"""How nodes of the spot market are marked; managed node groups on EKS."""


class SecretKey(Noun):
    """One key of a Secret that is there already."""

    name: DnsLabel
    key: Annotated[str, Field(min_length=1)]


class Toleration(Noun):
    """A taint that our pods may run on, as Kubernetes writes it."""

    key: str | None = None
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


class PodSize(Noun):
    """CPU and memory that a pod requests; memory is its limit too."""

    cpu: Quantity = "2"
    memory: Quantity = "8Gi"


class EngineSize(Noun):
    """What an engine pod requests beside its accelerators, per accelerator."""

    cpu: Positive = 3
    memory_gib: Positive = 12
    shared_memory_gib: Positive = Field(
        2, description="/dev/shm; counts as the pod's memory; tensor parallel ranks talk through it"
    )


class ModelCache(Noun):
    """Where engines keep the weights they download.

    ``empty_dir`` downloads anew for each pod; ``host_path`` keeps weights on the node; ``claim``
    shares a volume among all engines (give it an access mode that many nodes may mount).
    """

    kind: Literal["empty_dir", "host_path", "claim"] = "empty_dir"
    size: Quantity = "200Gi"
    path: str = Field("/var/lib/llm-orchestrator/models", description="on the node; host_path")
    existing_claim: DnsLabel | None = Field(None, description="instead of a claim of ours; claim")
    storage_class: str | None = Field(None, description="the cluster's default otherwise; claim")
    access_mode: Literal["ReadWriteMany", "ReadWriteOnce", "ReadOnlyMany"] = "ReadWriteMany"


class GcsFaultTolerance(Noun):
    """A Redis that keeps the head's state, so that a lost head stops nothing."""

    redis_address: str
    redis_password: SecretKey | None = None


class Autoscaling(Noun):
    """How the number of pods may move between plans."""

    in_tree: bool = Field(
        True,
        description="Ray's own autoscaler adds pods that Serve's replicas need and removes idle "
        "ones; without it a deployment adds pods, and removes those of whole groups only",
    )
    max_factor: Annotated[float, Field(ge=1)] = Field(
        2.0, description="a worker group grows to at most this many times what the plan rents"
    )
    idle_timeout_s: Count = Field(300, description="an idle pod is removed after; in_tree")


class AutoscalerPod(Noun):
    """A pod that runs `orchestrator autoscale` beside the service, with that command's options."""

    miss_worth: Positive = 10.0
    budget_usd_per_hour: Positive | None = None
    minimum: dict[str, Count] = Field(default_factory=dict, description="replicas by group")
    maximum: dict[str, Count] = Field(default_factory=dict, description="replicas by group")
    cpu: Quantity = "1"
    memory: Quantity = "2Gi"


class Monitoring(Noun):
    """Objects for the Prometheus operator and for Grafana's dashboard sidecar."""

    prometheus_operator: bool = True
    selector_labels: dict[str, str] = Field(
        default_factory=dict, description="what your Prometheus selects by, such as release: NAME"
    )
    dashboard_label: str = Field("grafana_dashboard", description="what Grafana's sidecar watches")
    namespace: DnsLabel = Field("monitoring", description="from where metrics may be read")
    interval_s: Count = 15
    admin_key: SecretKey | None = Field(
        None, description="an admin API key, for reading the ingress's metrics"
    )


class Network(Noun):
    """Who may reach what."""

    port: Port = Field(8000, description="of the OpenAI API, in the ingress's pods and the Service")
    service_type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = "ClusterIP"
    client_namespaces: tuple[DnsLabel, ...] = Field(
        (), description="from where the API may be reached; none named: from anywhere"
    )
    operator_namespace: DnsLabel | None = Field(
        None, description="of the KubeRay operator; it must reach the dashboard; none: any"
    )


class KubernetesSettings(Noun):
    """The settings file of the Kubernetes target."""

    version: Literal[1] = 1
    image: Annotated[str, Field(min_length=1, pattern=r"^\S+$")] = Field(
        description="with Ray, vLLM and this package; see docs/kubernetes.md"
    )
    namespace: DnsLabel = "default"
    create_namespace: bool = False
    ray_version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")] = "2.60.0"
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    image_pull_secrets: tuple[DnsLabel, ...] = ()
    cloud: Cloud = Field("generic", description="decides the node labels that are matched")
    node_selectors: dict[str, dict[str, str]] = Field(
        default_factory=dict, description="GPU type -> node labels, instead of the catalog's"
    )
    spot_labels: dict[str, str] = Field(
        default_factory=dict, description="labels of spot nodes, instead of the cloud's"
    )
    region_label: str | None = "topology.kubernetes.io/region"
    tolerations: tuple[Toleration, ...] = Field((), description="beside those for GPUs and spot")
    labels: dict[str, str] = Field(default_factory=dict, description="on every object")
    env: dict[str, str] = Field(default_factory=dict, description="of every container; no secrets")
    hf_token: SecretKey | None = Field(None, description="for weights that need a login")
    api_keys: SecretKey | None = Field(
        None, description="a keys file (`orchestrator keys create`); mounted in the ingress's pods"
    )
    engine_key: SecretKey | None = Field(
        None, description="what engines ask of whoever talks to them, and the ingress shows"
    )
    ray_token_secret: DnsLabel | None = Field(
        None, description="with key auth_token; none: the operator makes one for each cluster"
    )
    run_as_user: int | None = Field(1000, ge=1, description="none: the image's own user")
    head: PodSize = PodSize()
    ingress: PodSize = PodSize()
    ingress_replicas: Count = 2
    engine: EngineSize = EngineSize()
    engines: dict[str, EngineSize] = Field(
        default_factory=dict, description="GPU type -> size, instead of `engine`"
    )
    model_cache: ModelCache = ModelCache()
    router_artefact_path: str | None = Field(
        None, description="in the image or a volume; none: a ConfigMap carries it"
    )
    gcs_fault_tolerance: GcsFaultTolerance | None = None
    autoscaling: Autoscaling = Autoscaling()
    autoscaler: AutoscalerPod | None = Field(
        None, description="{}: a pod changes the replicas as the load asks for it"
    )
    monitoring: Monitoring = Monitoring()
    network: Network = Network()
    drain_s: Count = Field(
        60, description="so long a pod that is to go finishes what it has; nothing new comes to it"
    )
    upgrade: Literal["NewCluster", "None"] = Field(
        "NewCluster", description="when pods must change: a second cluster beside, or not at all"
    )

    @model_validator(mode="after")
    def _no_secrets_in_env(self) -> Self:
        words = ("TOKEN", "PASSWORD", "SECRET", "API_KEY")
        if bad := next((k for k in self.env if any(w in k.upper() for w in words)), None):
            raise ValueError(f"env: {bad!r} looks like a secret; put it into a Secret instead")
        return self

    def engine_size(self, gpu: str) -> EngineSize:
        """What engine pods on a GPU type request."""
        return self.engines.get(gpu, self.engine)

    @property
    def gpu_label(self) -> str:
        """The node label that tells a node's accelerator."""
        return GPU_LABELS[self.cloud]

    @property
    def spot_node_labels(self) -> dict[str, str]:
        """The node labels that tell spot nodes; none where they are not known."""
        return self.spot_labels or SPOT_LABELS[self.cloud]
