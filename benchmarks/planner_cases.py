"""Placement problems from real traces and the built-in catalog, for the planner's benchmark.

Sizes come from the traces under ``TRACES``, rates are scaled; profiles are computed by the roofline
or looked up in the silicon database. A grid has ``n x n`` buckets, its edges at equal shares of the
requests, so that few buckets are empty.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from placement.problem import (
    Option,
    Problem,
    RequestClass,
    Stock,
    exclude_unservable,
    load_matrix,
)
from profiler.catalog import load_catalog
from profiler.core import GpuType, ModelSpec, Profile, Slo
from profiler.roofline import DoesNotFit, roofline_profile
from profiler.traces import Trace, read_trace
from profiler.workload import SizeGrid, workload_from_trace

TRACES = Path(__file__).parents[1].parent / "shared" / "data" / "traces"
FILES = {
    "chat": "azure2023_conv",
    "code": "azure2023_code_first_half",
    "long": "mooncake_conversation",
}
MIXES: Mapping[str, Mapping[str, float]] = {
    "chat": {"chat": 1.0},
    "code": {"code": 1.0},
    "long": {"long": 1.0},
    "chat+code": {"chat": 0.5, "code": 0.5},
    "chat+long": {"chat": 0.8, "long": 0.2},
    "all": {"chat": 0.4, "code": 0.4, "long": 0.2},
}
"""Shares of the requests that each trace contributes."""
SAMPLE = 12_000
HEADROOM = 0.85
FOUR_GPUS = ("L4", "A10G", "A100-80GB", "H100")
EIGHT_GPUS = ("L4", "A10G", "A40", "L40S", "A100-40GB", "A100-80GB", "H100", "H200")
TWENTY_MODELS = (
    "llama-3.1-8b", "llama-3.2-1b", "llama-3.2-3b", "qwen2.5-0.5b", "qwen2.5-1.5b", "qwen2.5-3b",
    "qwen2.5-7b", "qwen2.5-14b", "qwen2.5-32b", "qwen3-0.6b", "qwen3-1.7b", "qwen3-4b", "qwen3-8b",
    "qwen3-14b", "qwen3-32b", "qwen3-30b-a3b", "gpt-oss-20b", "gemma-2-2b", "gemma-2-9b",
    "gemma-2-27b",
)  # fmt: skip
FIVE_MODELS = ("llama-3.1-8b", "qwen2.5-7b", "qwen2.5-14b", "qwen3-14b", "gemma-2-27b")
LOOSE = Slo(ttft_s=20.0, tpot_s=0.12, attainment=0.95)
TIGHT = Slo(ttft_s=20.0, tpot_s=0.04, attainment=0.95)

ProfileOf = Callable[[ModelSpec, GpuType, int], Profile | DoesNotFit]


@dataclass(frozen=True)
class Stream:
    """The requests of one model: which mix of traces, at what rate, in how many buckets."""

    model: str
    mix: str
    rate_rps: float
    buckets: int


@functools.cache
def sizes(mix: str) -> Trace:
    """Requests drawn from the mix's traces in their shares, without replacement, seed fixed."""
    rng = np.random.default_rng(0)
    parts = []
    for name, share in MIXES[mix].items():
        trace = read_trace(TRACES / f"{FILES[name]}.csv.gz")
        rows = rng.permutation(len(trace))[: round(SAMPLE * share)]
        parts.append((trace.input_tokens[rows], trace.output_tokens[rows]))
    inputs, outputs = (np.concatenate([p[k] for p in parts]) for k in (0, 1))
    return Trace(
        arrival_s=np.arange(len(inputs), dtype=float),
        input_tokens=inputs,
        output_tokens=outputs,
        source=mix,
    )


def classes_of(stream: Stream) -> tuple[RequestClass, ...]:
    """Request classes of a stream on its square grid; empty buckets are left out."""
    trace, side = sizes(stream.mix), round(stream.buckets**0.5)
    grid = SizeGrid(
        input_edges=_edges(trace.input_tokens, side), output_edges=_edges(trace.output_tokens, side)
    )
    rates = workload_from_trace(trace, grid, plan_for="mean").rates
    total = sum(r.rate_rps for r in rates)
    return tuple(
        RequestClass(stream.model, r.bucket, r.rate_rps * stream.rate_rps / total) for r in rates
    )


def _edges(tokens: np.ndarray[tuple[int], np.dtype[np.int64]], count: int) -> tuple[int, ...]:
    """``count`` rising edges with about equal shares of the requests between them."""
    distinct = np.unique(tokens)
    shares = np.arange(1, count + 1) / count
    edges = np.unique(np.quantile(tokens, shares, method="higher"))
    spare = np.setdiff1d(distinct, edges)
    extra = spare[np.linspace(0, len(spare) - 1, count - len(edges)).astype(int)]
    return tuple(int(e) for e in np.union1d(edges, extra))


def problem_of(
    streams: Sequence[Stream],
    gpus: Sequence[str],
    tensor_parallel: Sequence[int] = (1,),
    *,
    slo: Slo = LOOSE,
    profile_of: ProfileOf = roofline_profile,
    stocks: Sequence[Stock] = (),
) -> Problem:
    """The streams' problem over GPU types and tensor-parallel sizes, less unservable classes."""
    catalog = load_catalog()
    models = {s.model: catalog.model(s.model) for s in streams}
    types = {name: catalog.gpu(name) for name in gpus}
    options = tuple(
        Option(profile, "on_demand", k * gpu.price.on_demand_usd_per_hour)
        for model in models.values()
        for gpu in types.values()
        for k in tensor_parallel
        if model.splits_into(k) and not isinstance(profile := profile_of(model, gpu, k), DoesNotFit)
    )
    classes = tuple(c for s in streams for c in classes_of(s))
    return exclude_unservable(
        Problem(
            slo=slo,
            classes=classes,
            options=options,
            stocks=tuple(stocks),
            headroom=HEADROOM,
            load_s=load_matrix(classes, options, slo),
            models=models,
            gpus=types,
        )
    )
