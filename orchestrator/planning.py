"""From a service file to the planner's problem: names looked up, traffic read, profiles made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from orchestrator.learned_router import by_difficulty, learned_router
from orchestrator.limits import limits_of, quality_of, request_class
from orchestrator.loading import LoadedService, config_key, engine_options, sizes_of, streams
from orchestrator.service import Estimates, GpuEntry, ModelEntry, WorkloadSpec
from placement.problem import Option, Problem, Stock, load_matrix, slot_gpus
from profiler.core import (
    GpuType,
    ModelSpec,
    Profile,
    Workload,
)
from profiler.errors import InputError, UnknownNameError
from profiler.generator import generate
from profiler.roofline import DoesNotFit, roofline_profile
from profiler.silicon import silicon_or_roofline
from profiler.traces import Trace, read_trace
from profiler.workload import workload_from_sizes, workload_from_trace


def build_problem(
    loaded: LoadedService,
    on_step: Callable[[str], None] = lambda _: None,
    traces: Mapping[str, Trace] | None = None,
) -> Problem:
    """The planner's problem: request classes from the traffic, options from the profiles.

    ``traces`` are those of `traces_of`, where they have been read already.

    Raises:
        InputError: a trace is missing, empty or malformed.
    """
    service = loaded.service
    learned = learned_router(loaded)
    plain = (
        request_class(loaded, stream, r)
        for stream, workload in workloads(loaded, on_step, traces).items()
        for r in workload.rates
    )
    classes = tuple(part for c in plain for part in by_difficulty(c, learned))
    on_step("profiling")
    options, misfits = _options(loaded)
    quality, notes = (
        quality_of(loaded, classes, options)
        if learned is None
        else (learned.quality(classes, options), learned.notes)
    )
    return Problem(
        slo=service.slo,
        classes=classes,
        options=options,
        stocks=tuple(_stock(entry, gpu) for entry, gpu in loaded.gpus),
        headroom=service.headroom,
        load_s=load_matrix(classes, options, service.slo),
        quality=quality,
        limits=limits_of(loaded),
        misfits=misfits,
        models={spec.name: spec for _, spec in loaded.models},
        gpus={gpu.name: gpu for _, gpu in loaded.gpus},
        notes=notes,
        router=learned.planned if learned else None,
    )


def traces_of(
    loaded: LoadedService, on_step: Callable[[str], None] = lambda _: None
) -> dict[str, Trace]:
    """The trace of each stream that has more than a rate, read or generated.

    Raises:
        InputError: one is missing, empty or malformed.
    """
    found = {}
    for stream, spec in _workload_specs(loaded).items():
        if spec.rate_rps is None:
            on_step(f"reading the traffic of {stream}")
            found[stream] = trace_of(spec, loaded.directory)
    return found


def workloads(
    loaded: LoadedService,
    on_step: Callable[[str], None] = lambda _: None,
    traces: Mapping[str, Trace] | None = None,
) -> dict[str, Workload]:
    """The workload of each stream: ``auto`` and the models that have one of their own."""
    traces = traces_of(loaded, on_step) if traces is None else traces
    specs = _workload_specs(loaded)
    return {stream: _workload(spec, traces.get(stream)) for stream, spec in specs.items()}


def stream_workload(loaded: LoadedService, stream: str) -> WorkloadSpec:
    """The workload section of one stream.

    Raises:
        UnknownNameError: no such stream has a workload.
    """
    specs = _workload_specs(loaded)
    if stream not in specs:
        raise UnknownNameError("stream", stream, specs)
    return specs[stream]


def _workload_specs(loaded: LoadedService) -> dict[str, WorkloadSpec]:
    return dict(streams(loaded.service, loaded.models))


def trace_of(spec: WorkloadSpec, directory: Path) -> Trace:
    """The trace a workload names or generates; a bare rate becomes Poisson arrivals."""
    if spec.trace is not None:
        return read_trace(directory / spec.trace, format=spec.format)
    arrivals = spec.arrivals
    if arrivals is None or spec.sizes is None:
        raise InputError("a workload of only a rate has no trace; give arrivals instead")
    return generate(arrivals, spec.sizes, spec.duration_s, spec.seed)


def _workload(spec: WorkloadSpec, trace: Trace | None) -> Workload:
    if spec.rate_rps is not None and spec.sizes is not None:
        return workload_from_sizes(spec.rate_rps * spec.multiply_rate, spec.sizes)
    assert trace is not None, "a workload is a trace, arrivals, or a rate with sizes"
    workload = workload_from_trace(trace, plan_for=spec.plan_for)
    return _multiplied(workload, spec.multiply_rate)


def _multiplied(workload: Workload, factor: float) -> Workload:
    if factor == 1.0:
        return workload
    rates = tuple(r.model_copy(update={"rate_rps": r.rate_rps * factor}) for r in workload.rates)
    return workload.model_copy(
        update={
            "rates": rates,
            "mean_rate_rps": workload.mean_rate_rps * factor,
            "planned_rate_rps": workload.planned_rate_rps * factor,
        }
    )


def _options(loaded: LoadedService) -> tuple[tuple[Option, ...], dict[str, tuple[str, ...]]]:
    """Every replica that could be bought, and per GPU type why other configs could not."""
    options: list[Option] = []
    misfits: dict[str, list[str]] = {}
    for entry, gpu in loaded.gpus:
        for model_entry, spec in loaded.models:
            fits: list[Option] = []
            refused = [f"{spec.name} splits into none of the sizes to try that fit a node"]
            for size in _sizes(entry, model_entry, spec, gpu):
                profile = profile_for(
                    loaded.profiles, model_entry, spec, gpu, size, loaded.service.estimates
                )
                if isinstance(profile, DoesNotFit):
                    refused.append(f"{spec.name} {profile.reason}")
                else:
                    fits.append(_option(entry, gpu, profile))
            options += fits
            if not fits:
                misfits.setdefault(gpu.name, []).append(refused[-1])
    return tuple(options), {gpu: tuple(dict.fromkeys(rs)) for gpu, rs in misfits.items()}


def profile_for(
    profiles: Mapping[str, Profile],
    entry: ModelEntry,
    spec: ModelSpec,
    gpu: GpuType,
    size: int,
    estimates: Estimates = "roofline",
) -> Profile | DoesNotFit:
    """The profile of a replica: one of ``profiles`` (by key) where it is known, else estimated."""
    engine = engine_options(entry.engine, gpu)
    known = profiles.get(config_key(spec, gpu, size))
    if known is not None:
        return known
    if estimates == "silicon":
        return silicon_or_roofline(spec, gpu, size, engine)
    return roofline_profile(spec, gpu, size, engine)


def _sizes(entry: GpuEntry, model: ModelEntry, spec: ModelSpec, gpu: GpuType) -> tuple[int, ...]:
    """Tensor-parallel sizes that fit into a node as it is sold."""
    sizes = sizes_of(model, spec, gpu)
    return sizes if entry.node is None else tuple(s for s in sizes if s <= entry.node.gpus)


def _option(entry: GpuEntry, gpu: GpuType, profile: Profile) -> Option:
    size, stock = profile.config.tensor_parallel, _stock(entry, gpu)
    price = size * _usd_per_hour(entry, gpu)
    if stock.node_gpus > 1:
        price = slot_gpus(size, stock.node_gpus) / stock.node_gpus * stock.usd_per_node_hour
    return Option(profile, entry.market, price, stock.region, stock.node_gpus)


def _stock(entry: GpuEntry, gpu: GpuType) -> Stock:
    """What one entry offers; without ``available``, any number."""
    region = entry.region or ""
    if entry.node is None:
        return Stock(gpu.name, entry.market, entry.available, region)
    size = entry.node.gpus
    price = entry.node.usd_per_hour or size * _usd_per_hour(entry, gpu)
    return Stock(gpu.name, entry.market, entry.available, region, size, price)


def _usd_per_hour(entry: GpuEntry, gpu: GpuType) -> float:
    price = entry.usd_per_hour or gpu.price.usd_per_hour(entry.market)
    if price is None:
        raise InputError(f"no {entry.market} price is known for {gpu.name}; set usd_per_hour")
    return price
