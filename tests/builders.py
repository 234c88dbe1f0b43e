"""Nouns with sensible defaults, so that a test states only what it is about."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

from placement.limits import Limits
from placement.problem import Option, Problem, RequestClass, load_matrix, quality_matrix
from profiler.core import (
    EngineOptions,
    GpuType,
    ModelSpec,
    Price,
    Profile,
    Provenance,
    ReplicaConfig,
    SizeBucket,
    Slo,
    StepTime,
)
from profiler.roofline import DoesNotFit, roofline_profile

DAY = dt.date(2026, 1, 1)


def gpu(name: str = "A100", usd_per_hour: float = 2.0, **kwargs: Any) -> GpuType:
    spec: dict[str, Any] = {
        "vendor": "nvidia",
        "memory_gb": 80,
        "bandwidth_gb_per_s": 2039,
        "fp16_tflop_per_s": 312,
        "price": Price(on_demand_usd_per_hour=usd_per_hour, source="test", as_of=DAY),
    }
    return GpuType(name=name, **(spec | kwargs))


def model(name: str = "llama-8b", **kwargs: Any) -> ModelSpec:
    spec: dict[str, Any] = {
        "weights": f"example/{name}",
        "total_params": 8_030_261_248,
        "active_params": 8_030_261_248,
        "layers": 32,
        "hidden_size": 4096,
        "kv_heads": 8,
        "head_dim": 128,
        "context_tokens": 131072,
    }
    return ModelSpec(name=name, **(spec | kwargs))


def step_time(
    base_s: float = 0.01,
    per_prefill_token_s: float = 5e-5,
    per_sequence_s: float = 1e-4,
    per_kv_token_s: float = 1e-7,
    batch_extra_s: tuple[float, ...] = (),
) -> StepTime:
    return StepTime(
        base_s=base_s,
        per_prefill_token_s=per_prefill_token_s,
        per_sequence_s=per_sequence_s,
        per_kv_token_s=per_kv_token_s,
        batch_extra_s=batch_extra_s,
    )


def profile(
    model: str = "llama-8b",
    gpu: str = "A100",
    *,
    law: StepTime | None = None,
    kv_capacity_tokens: int = 200_000,
    max_model_len: int = 32_768,
    max_num_seqs: int = 256,
    max_num_batched_tokens: int = 2048,
    tensor_parallel: int = 1,
) -> Profile:
    return Profile(
        config=ReplicaConfig(
            model=model,
            gpu=gpu,
            tensor_parallel=tensor_parallel,
            engine=EngineOptions(
                max_num_seqs=max_num_seqs, max_num_batched_tokens=max_num_batched_tokens
            ),
        ),
        step_time=law or step_time(),
        kv_capacity_tokens=kv_capacity_tokens,
        max_model_len=max_model_len,
        provenance=Provenance(kind="roofline", date=DAY),
    )


def slo(ttft_s: float = 2.0, tpot_s: float = 0.06, attainment: float = 0.95) -> Slo:
    return Slo(ttft_s=ttft_s, tpot_s=tpot_s, attainment=attainment)


def bucket(input_tokens: int = 1024, output_tokens: int = 256) -> SizeBucket:
    return SizeBucket(
        input_range=(0, input_tokens),
        output_range=(0, output_tokens),
        input_tokens=input_tokens,
        output_tokens=output_tokens,
    )


def request_class(
    rate_rps: float = 5.0,
    input_tokens: int = 1024,
    output_tokens: int = 256,
    stream: str = "auto",
) -> RequestClass:
    return RequestClass(stream, bucket(input_tokens, output_tokens), rate_rps)


def fitted(spec: ModelSpec, on: GpuType, tensor_parallel: int = 1) -> Profile:
    found = roofline_profile(spec, on, tensor_parallel)
    assert not isinstance(found, DoesNotFit), found.reason
    return found


def problem(
    classes: tuple[RequestClass, ...] = (request_class(),),
    options: tuple[Option, ...] | None = None,
    **kwargs: Any,
) -> Problem:
    """A problem over roofline profiles; by default one model on two GPU types.

    ``quality`` may be given per model, and ``quality_target`` is the mean asked of ``auto``.
    """
    if options is None:
        types = (
            gpu("A100", 2.0),
            gpu("A10G", 0.6, memory_gb=24, bandwidth_gb_per_s=600, fp16_tflop_per_s=70),
        )
        options = tuple(
            Option(fitted(model(), g), "on_demand", g.price.on_demand_usd_per_hour) for g in types
        )
    target = kwargs.pop("slo", slo())
    if isinstance(by_model := kwargs.get("quality"), dict):
        kwargs["quality"] = quality_matrix(classes, options, by_model)
    if (mean := kwargs.pop("quality_target", None)) is not None:
        kwargs["limits"] = replace(kwargs.get("limits", Limits()), quality_mean={"auto": mean})
    names = {o.gpu for o in options}
    defaults: dict[str, Any] = {
        "stocks": (),
        "headroom": 0.85,
        "models": {o.model: model(o.model) for o in options},
        "gpus": {n: gpu(n) for n in sorted(names)},
    }
    return Problem(
        slo=target,
        classes=classes,
        options=options,
        load_s=load_matrix(classes, options, target),
        **(defaults | kwargs),
    )
