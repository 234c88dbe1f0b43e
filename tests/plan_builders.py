"""Plans with sensible defaults, so that a test states only what it is about."""

from __future__ import annotations

from collections.abc import Mapping

from placement.plan import Cost, Plan, ReplicaGroup, Route
from profiler.core import GpuType, SizeBucket
from tests import builders


def cpu() -> GpuType:
    return builders.gpu("cpu", 0.1, vendor="cpu", memory_gb=16, link="none")


def group(
    name: str = "a", model: str = "m1", gpu: str = "cpu", replicas: int = 1, max_num_seqs: int = 8
) -> ReplicaGroup:
    return ReplicaGroup(
        name=name,
        market="on_demand",
        replicas=replicas,
        usd_per_hour=0.1,
        load=0.5,
        profile=builders.profile(
            model, gpu, kv_capacity_tokens=2048, max_model_len=2048, max_num_seqs=max_num_seqs
        ),
    )


def bucket(inputs: tuple[int, int] = (0, 1000), outputs: tuple[int, int] = (0, 1000)) -> SizeBucket:
    return SizeBucket(
        input_range=inputs, output_range=outputs, input_tokens=inputs[1], output_tokens=outputs[1]
    )


def route(
    shares: Mapping[str, float],
    stream: str = "auto",
    inputs: tuple[int, int] = (0, 1000),
    outputs: tuple[int, int] = (0, 1000),
    rate_rps: float = 1.0,
) -> Route:
    return Route(
        stream=stream, bucket=bucket(inputs, outputs), rate_rps=rate_rps, shares=dict(shares)
    )


def plan(
    groups: tuple[ReplicaGroup, ...] = (group(),),
    routes: tuple[Route, ...] | None = None,
    service: str = "demo",
) -> Plan:
    gpus = {"cpu": cpu()} | {
        g.config.gpu: builders.gpu(g.config.gpu) for g in groups if g.config.gpu != "cpu"
    }
    return Plan(
        service=service,
        slo=builders.slo(),
        headroom=0.85,
        cost=Cost(
            usd_per_hour=0.1,
            usd_per_million_tokens=1,
            lower_bound_usd_per_hour=0.1,
            gap=0,
            lp_bound_usd_per_hour=0.1,
        ),
        groups=groups,
        models={
            g.config.model: builders.model(
                g.config.model, total_params=100_000_000, kv_heads=2, head_dim=64, layers=4
            )
            for g in groups
        },
        gpus=gpus,
        routes=(route({groups[0].name: 1.0}),) if routes is None else routes,
    )
