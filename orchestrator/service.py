"""The service file: what to serve, on what, how fast, how well, and under which traffic."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from orchestrator.service_limits import (
    ClassRule,
    Moving,
    NodeLoss,
    NodeOffer,
    QualityTarget,
    ReplicaRule,
    SpotLimits,
)
from placement.plan import RouterPolicy, ServiceName, Targets
from profiler.arrivals import Arrivals
from profiler.core import Count, Market, Name, Noun, Positive, Share, Slo
from profiler.sizes import Sizes
from profiler.trace_formats import FormatName
from profiler.workload import PlanFor
from serve_apps.gateway_settings import GatewaySettings

Estimates = Literal["roofline", "silicon"]


class WorkloadSpec(Noun):
    """Traffic: a trace file, generated arrivals, or just a rate; the last two with sizes."""

    trace: str | None = Field(None, description="CSV or JSONL, gzip too; relative to this file")
    format: FormatName = "auto"
    arrivals: Arrivals | None = Field(None, description="a generated trace's arrival process")
    duration_s: Positive = Field(3600.0, description="how long a trace to generate")
    seed: int = Field(0, description="of the generated trace")
    rate_rps: Positive | None = Field(
        None, description="requests per second, with Poisson arrivals"
    )
    sizes: Sizes | None = Field(None, description="azure-chat, azure-code, or a distribution")
    plan_for: PlanFor = Field(
        "p95", description="which of the trace's one-minute request rates the fleet must carry"
    )
    multiply_rate: Positive = Field(1.0, description="scales every request rate")
    slo: Slo | None = Field(None, description="of these requests, instead of the service's")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [k for k in ("trace", "arrivals", "rate_rps") if getattr(self, k) is not None]
        if len(given) != 1:
            found = f"found {' and '.join(given)}" if given else "found none of them"
            raise ValueError(f"expected exactly one of trace, arrivals, rate_rps; {found}")
        if self.trace is None and self.sizes is None:
            raise ValueError(f"{given[0]} needs sizes beside it, such as `sizes: azure-chat`")
        if self.trace is not None and self.sizes is not None:
            raise ValueError("a trace has sizes of its own; remove sizes")
        return self


class EngineLimits(Noun):
    """Overrides of the engine's scheduler limits; what is not given, vLLM's defaults decide."""

    max_num_seqs: Count | None = None
    max_num_batched_tokens: Count | None = None
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] | None = None
    max_model_len: Count | None = None
    extra_args: tuple[str, ...] | None = None


class ModelEntry(Noun):
    """A model to serve."""

    model: str = Field(description="catalog name, hub name, or path of a config.json")
    quality: Share | None = Field(None, description="expected share of right answers")
    outcome: str | None = Field(
        None, description="its name in quality.outcomes and router.artefact, if another"
    )
    tensor_parallel: tuple[Count, ...] | None = Field(None, min_length=1)
    engine: EngineLimits = EngineLimits()
    workload: WorkloadSpec | None = Field(None, description="requests that name this model")


class RouterSpec(Noun):
    """A learned router: its estimates tell each model's quality, request by request."""

    artefact: str = Field(description="made by `orchestrator router train`; relative to this file")
    difficulty_bins: Annotated[int, Field(ge=1, le=20)] = Field(
        5, description="request classes that each size bucket is split into"
    )
    policy: RouterPolicy = "utility"


class GpuEntry(Noun):
    """A GPU type that may be rented, in one market."""

    type: str = Field(description="catalog name")
    available: Annotated[int, Field(ge=0)] | None = Field(
        None, description="how many can be had; without it, as many as needed"
    )
    market: Market = "on_demand"
    usd_per_hour: Positive | None = Field(None, description="instead of the catalog's price")
    region: Name | None = Field(None, description="where; it only names, prices are per entry")
    node: NodeOffer | None = Field(None, description="where only whole nodes are sold")


def _named_or_full(value: Any) -> str:
    return "name" if isinstance(value, str) else "entry"


def _all_or_list(value: Any) -> str:
    return "all" if isinstance(value, str) else "list"


ModelRef = Annotated[
    Annotated[str, Tag("name")] | Annotated[ModelEntry, Tag("entry")],
    Discriminator(_named_or_full),
]
GpuRef = Annotated[
    Annotated[str, Tag("name")] | Annotated[GpuEntry, Tag("entry")], Discriminator(_named_or_full)
]
GpuList = Annotated[tuple[GpuRef, ...], Field(min_length=1)]
"""An entry that says nothing but its name may be just the name."""


class Service(Noun):
    """One service: models, GPU types, latency targets, traffic."""

    version: Literal[1] = 1
    name: ServiceName
    models: tuple[ModelRef, ...] = Field(min_length=1)
    gpus: Annotated[
        Annotated[Literal["all"], Tag("all")] | Annotated[GpuList, Tag("list")],
        Discriminator(_all_or_list),
    ]
    slo: Slo
    workload: WorkloadSpec | None = Field(
        None, description="requests that leave the choice of model to the router"
    )
    quality: QualityTarget | None = None
    router: RouterSpec | None = Field(None, description="a learned router, for that workload")
    budget_usd_per_hour: Positive | None = Field(
        None, description="buy the highest mean quality for it, then as cheaply as that can be had"
    )
    classes: tuple[ClassRule, ...] = Field((), description="what differs for some requests")
    spot: SpotLimits = SpotLimits()
    replicas: tuple[ReplicaRule, ...] = ()
    node_loss: NodeLoss | None = None
    moving: Moving | None = None
    headroom: Annotated[float, Field(gt=0, le=1)] = Field(
        0.85, description="largest planned load of a replica, as a share of its saturation"
    )
    catalog: tuple[str, ...] = Field((), description="files with GPU types and models of your own")
    profiles: tuple[str, ...] = Field((), description="measured profiles, used before estimates")
    estimates: Estimates = Field(
        "roofline",
        description="what stands in for a profile: arithmetic, or a database of measured kernels "
        "(needs the extra silicon) where it has the model and GPU",
    )
    targets: Targets = Targets()
    gateway: GatewaySettings = Field(
        GatewaySettings(), description="keys, limits and processes of the front door"
    )

    @property
    def model_entries(self) -> tuple[ModelEntry, ...]:
        """Models, each in full."""
        return tuple(ModelEntry(model=m) if isinstance(m, str) else m for m in self.models)

    @property
    def gpu_entries(self) -> tuple[GpuEntry, ...] | None:
        """GPU types, each in full; None for all of the catalog."""
        if self.gpus == "all":
            return None
        return tuple(GpuEntry(type=g) if isinstance(g, str) else g for g in self.gpus)

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.workload is None:
            idle = [m.model for m in self.model_entries if m.workload is None]
            if idle:
                raise ValueError(
                    f"models: no traffic for {idle[0]}; give the service or it a workload"
                )
            if self.quality is not None:
                raise ValueError("quality: it is for the service's own workload, which is missing")
            if self.router is not None:
                raise ValueError("router: it is for the service's own workload, which is missing")
        self._check_quality()
        return self

    def _check_quality(self) -> None:
        if self.workload is None:
            return
        target, budget = self.quality, self.budget_usd_per_hour
        aim = budget is not None or (target is not None and target.aims)
        if len(self.models) > 1 and not aim:
            raise ValueError(
                "models: several share one workload; set quality.mean (or a budget) and each "
                "model's quality, or give each model a workload of its own"
            )
        if self.router is not None:
            if named := next((r.dataset for r in self.classes if r.dataset), None):
                raise ValueError(f"classes: dataset {named!r} and router both tell quality")
            return
        if target is not None and target.outcomes is not None:
            return
        needed = target is not None or any(r.quality is not None for r in self.classes)
        needed = needed or (budget is not None and len(self.models) > 1)
        unknown = [m.model for m in self.model_entries if m.quality is None]
        if needed and unknown:
            raise ValueError(f"quality: it needs each model's quality; {unknown[0]} has none")
        if named := next((r.dataset for r in self.classes if r.dataset), None):
            raise ValueError(f"classes: dataset {named!r} is of quality.outcomes, which is missing")
