"""From a service file to the planner's problem: names looked up, traffic read, profiles made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestrator.service import EngineLimits, GpuEntry, ModelEntry, Service, WorkloadSpec
from placement.plan import AUTO
from placement.problem import Option, Problem, RequestClass, Stock, load_matrix
from profiler import documents
from profiler.catalog import Catalog, load_catalog, resolve_model
from profiler.core import EngineOptions, GpuType, ModelSpec, Profile, Workload
from profiler.errors import InputError, UnknownNameError
from profiler.generator import generate
from profiler.roofline import DoesNotFit, default_engine, roofline_profile
from profiler.silicon import silicon_or_roofline
from profiler.traces import Trace, read_trace
from profiler.workload import workload_from_sizes, workload_from_trace

TENSOR_PARALLEL_SIZES = (1, 2, 4, 8)


@dataclass(frozen=True)
class LoadedService:
    """A service file with every name in it looked up."""

    service: Service
    directory: Path
    catalog: Catalog
    models: tuple[tuple[ModelEntry, ModelSpec], ...]
    gpus: tuple[tuple[GpuEntry, GpuType], ...]
    profiles: dict[str, Profile]


def load_service(path: str | Path) -> LoadedService:
    """Read a service file and look up its models, GPU types and profiles; traffic is left alone.

    Raises:
        InputError: with file, line, what was found and what was expected.
    """
    document = documents.open_document(path)
    service, directory = document.validate(Service), Path(path).resolve().parent
    catalog = load_catalog(*(directory / c for c in service.catalog))
    return LoadedService(
        service=service,
        directory=directory,
        catalog=catalog,
        models=tuple(_models(service, document, catalog, directory)),
        gpus=tuple(_gpus(service, document, catalog)),
        profiles=_profiles(service, document, directory),
    )


def build_problem(
    loaded: LoadedService, on_step: Callable[[str], None] = lambda _: None
) -> Problem:
    """The planner's problem: request classes from the traffic, options from the profiles.

    Raises:
        InputError: a trace is missing, empty or malformed.
    """
    service = loaded.service
    classes = tuple(
        RequestClass(stream, r.bucket, r.rate_rps)
        for stream, workload in workloads(loaded, on_step).items()
        for r in workload.rates
    )
    on_step("profiling")
    options, misfits = _options(loaded)
    return Problem(
        slo=service.slo,
        classes=classes,
        options=options,
        stocks=tuple(
            Stock(gpu.name, entry.market, entry.available)
            for entry, gpu in loaded.gpus
            if entry.available is not None
        ),
        headroom=service.headroom,
        load_s=load_matrix(classes, options, service.slo),
        quality={spec.name: entry.quality or 0.0 for entry, spec in loaded.models},
        quality_target=service.quality.mean if service.quality else None,
        misfits=misfits,
        models={spec.name: spec for _, spec in loaded.models},
        gpus={gpu.name: gpu for _, gpu in loaded.gpus},
    )


def workloads(
    loaded: LoadedService, on_step: Callable[[str], None] = lambda _: None
) -> dict[str, Workload]:
    """The workload of each stream: ``auto`` and the models that have one of their own."""
    found = {}
    for stream, spec in _workload_specs(loaded).items():
        on_step(f"reading the traffic of {stream}")
        found[stream] = _workload(spec, loaded.directory)
    return found


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
    specs = {AUTO: loaded.service.workload}
    specs |= {spec.name: entry.workload for entry, spec in loaded.models}
    return {stream: spec for stream, spec in specs.items() if spec is not None}


def trace_of(spec: WorkloadSpec, directory: Path) -> Trace:
    """The trace a workload names or generates; a bare rate becomes Poisson arrivals."""
    if spec.trace is not None:
        return read_trace(directory / spec.trace, format=spec.format)
    arrivals = spec.arrivals
    if arrivals is None or spec.sizes is None:
        raise InputError("a workload of only a rate has no trace; give arrivals instead")
    return generate(arrivals, spec.sizes, spec.duration_s, spec.seed)


def _workload(spec: WorkloadSpec, directory: Path) -> Workload:
    if spec.rate_rps is not None and spec.sizes is not None:
        return workload_from_sizes(spec.rate_rps * spec.multiply_rate, spec.sizes)
    workload = workload_from_trace(trace_of(spec, directory), plan_for=spec.plan_for)
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


def _models(
    service: Service, document: documents.Document, catalog: Catalog, directory: Path
) -> Iterator[tuple[ModelEntry, ModelSpec]]:
    for i, entry in enumerate(service.models):
        try:
            yield entry, resolve_model(catalog, _source(entry.model, catalog, directory))
        except InputError as error:
            raise InputError(f"{document.where(('models', i, 'model'))}: {error}") from None


def _source(name: str, catalog: Catalog, directory: Path) -> str:
    """Paths in a service file are relative to it; the catalog's names come first."""
    beside = directory / name
    return str(beside) if name not in catalog.models and beside.exists() else name


def _gpus(
    service: Service, document: documents.Document, catalog: Catalog
) -> Iterator[tuple[GpuEntry, GpuType]]:
    if service.gpus == "all":
        rented = (g for g in catalog.gpus.values() if g.vendor != "cpu")
        yield from ((GpuEntry(type=g.name), g) for g in rented)
        return
    for i, entry in enumerate(service.gpus):
        try:
            gpu = catalog.gpu(entry.type)
        except UnknownNameError as error:
            raise InputError(f"{document.where(('gpus', i, 'type'))}: {error}") from None
        if entry.usd_per_hour is None and gpu.price.usd_per_hour(entry.market) is None:
            where = document.where(("gpus", i, "market"))
            raise InputError(f"{where}: no spot price is known for {gpu.name}; set usd_per_hour")
        yield entry, gpu


def _profiles(
    service: Service, document: documents.Document, directory: Path
) -> dict[str, Profile]:
    found = {}
    for i, path in enumerate(service.profiles):
        if not (directory / path).exists():
            raise InputError(
                f"{document.where(('profiles', i))}: {path}: no such file; remove it, or "
                f"measure it: orchestrator profile measure MODEL --gpu TYPE --save {path}"
            )
        profile = documents.read(directory / path, Profile)
        found[profile.config.key] = profile
    return found


def _options(loaded: LoadedService) -> tuple[tuple[Option, ...], dict[str, tuple[str, ...]]]:
    """Every replica that could be bought, and per GPU type why other configs could not."""
    options: list[Option] = []
    misfits: dict[str, list[str]] = {}
    for entry, gpu in loaded.gpus:
        for model_entry, spec in loaded.models:
            fits: list[Option] = []
            refused: list[str] = []
            for size in _sizes(model_entry, gpu):
                profile = _profile(loaded, model_entry, spec, gpu, size)
                if isinstance(profile, DoesNotFit):
                    refused.append(f"{spec.name} {profile.reason}")
                else:
                    price = size * _usd_per_hour(entry, gpu)
                    fits.append(Option(profile, entry.market, price))
            options += fits
            if not fits:
                misfits.setdefault(gpu.name, []).append(refused[-1])
    return tuple(options), {gpu: tuple(dict.fromkeys(rs)) for gpu, rs in misfits.items()}


def _sizes(entry: ModelEntry, gpu: GpuType) -> tuple[int, ...]:
    asked = entry.tensor_parallel or TENSOR_PARALLEL_SIZES
    return tuple(s for s in sorted(set(asked)) if s <= gpu.max_per_node) or (1,)


def _profile(
    loaded: LoadedService, entry: ModelEntry, spec: ModelSpec, gpu: GpuType, size: int
) -> Profile | DoesNotFit:
    engine = engine_options(entry.engine, gpu)
    known = loaded.profiles.get(f"{spec.name}@{size}x{gpu.name}")
    if known is not None:
        return known
    if loaded.service.estimates == "silicon":
        return silicon_or_roofline(spec, gpu, size, engine)
    return roofline_profile(spec, gpu, size, engine)


def engine_options(limits: EngineLimits, gpu: GpuType) -> EngineOptions:
    """vLLM's defaults for a GPU type, with what the service overrides."""
    return default_engine(gpu).model_copy(update=limits.model_dump(exclude_none=True))


def _usd_per_hour(entry: GpuEntry, gpu: GpuType) -> float:
    price = entry.usd_per_hour or gpu.price.usd_per_hour(entry.market)
    if price is None:
        raise InputError(f"no {entry.market} price is known for {gpu.name}; set usd_per_hour")
    return price
