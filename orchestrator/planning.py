"""From a service file to the planner's problem: names looked up, traffic read, profiles made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.service import EngineLimits, GpuEntry, ModelEntry, Service, WorkloadSpec
from placement.plan import AUTO
from placement.problem import Option, Problem, RequestClass, Stock, load_matrix
from profiler import documents
from profiler.catalog import Catalog, load_catalog, resolve_model
from profiler.core import (
    EngineOptions,
    GpuType,
    ModelSpec,
    Profile,
    ReplicaConfig,
    Workload,
)
from profiler.errors import InputError, UnknownNameError
from profiler.generator import generate
from profiler.roofline import DoesNotFit, default_engine, roofline_profile
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
    for i, name in enumerate(service.catalog):
        _require_file(directory / name, document.where(("catalog", i)))
    catalog = load_catalog(*(directory / c for c in service.catalog))
    models = tuple(_models(service, document, catalog, directory))
    gpus = tuple(_gpus(service, document, catalog))
    for stream, spec in _streams(service, models):
        if spec.trace is not None:
            at = ("workload",) if stream == AUTO else ("models", _index(models, stream), "workload")
            _require_file(directory / spec.trace, document.where((*at, "trace")))
    loaded = LoadedService(service, directory, catalog, models, gpus, {})
    return replace(loaded, profiles=_profiles(loaded, document))


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
    return dict(_streams(loaded.service, loaded.models))


def _streams(
    service: Service, models: tuple[tuple[ModelEntry, ModelSpec], ...]
) -> Iterator[tuple[str, WorkloadSpec]]:
    if service.workload is not None:
        yield AUTO, service.workload
    for entry, spec in models:
        if entry.workload is not None:
            yield spec.name, entry.workload


def _index(models: tuple[tuple[ModelEntry, ModelSpec], ...], name: str) -> int:
    return [spec.name for _, spec in models].index(name)


def _require_file(path: Path, where: str, mend: str = "") -> None:
    if not path.is_file():
        found = "is no file" if path.exists() else "no such file"
        raise InputError(f"{where}: {path}: {found}{mend}")


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
    seen: set[str] = set()
    for i, entry in enumerate(service.model_entries):
        where = document.where(("models", i, "model"))
        try:
            spec = resolve_model(catalog, _source(entry.model, catalog, directory))
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        if spec.name in seen:
            raise InputError(f"{where}: {spec.name} is listed twice")
        if spec.name == AUTO:
            raise InputError(f"{where}: {AUTO!r} stands for any model; name this one otherwise")
        seen.add(spec.name)
        _check_entry(entry, spec, document, i)
        yield entry, spec


def _check_entry(
    entry: ModelEntry, spec: ModelSpec, document: documents.Document, index: int
) -> None:
    """What the service asks of a model must be something that vLLM does with it."""
    for size in entry.tensor_parallel or ():
        if not spec.splits_into(size):
            where = document.where(("models", index, "tensor_parallel"))
            heads = f"{spec.attention_heads} attention heads, {spec.kv_heads} KV heads"
            raise InputError(f"{where}: {spec.name} ({heads}) does not split into {size} parts")
    longest = entry.engine.max_model_len
    if longest is not None and longest > spec.context_tokens:
        where = document.where(("models", index, "engine", "max_model_len"))
        raise InputError(
            f"{where}: found {longest}, expected at most the {spec.context_tokens} of {spec.name}"
        )


def _source(name: str, catalog: Catalog, directory: Path) -> str:
    """Paths in a service file are relative to it; the catalog's names come first."""
    beside = directory / name
    return str(beside) if name not in catalog.models and beside.exists() else name


def _gpus(
    service: Service, document: documents.Document, catalog: Catalog
) -> Iterator[tuple[GpuEntry, GpuType]]:
    entries = service.gpu_entries
    if entries is None:
        rented = (g for g in catalog.gpus.values() if g.vendor != "cpu")
        yield from ((GpuEntry(type=g.name), g) for g in rented)
        return
    seen: set[tuple[str, str]] = set()
    for i, entry in enumerate(entries):
        try:
            gpu = catalog.gpu(entry.type)
        except UnknownNameError as error:
            raise InputError(f"{document.where(('gpus', i, 'type'))}: {error}") from None
        if entry.usd_per_hour is None and gpu.price.usd_per_hour(entry.market) is None:
            where = document.where(("gpus", i, "market"))
            raise InputError(f"{where}: no spot price is known for {gpu.name}; set usd_per_hour")
        if (gpu.name, entry.market) in seen:
            where = document.where(("gpus", i, "type"))
            raise InputError(f"{where}: {gpu.name} ({entry.market}) is listed twice")
        seen.add((gpu.name, entry.market))
        yield entry, gpu


def _profiles(loaded: LoadedService, document: documents.Document) -> dict[str, Profile]:
    """The service's own profiles by replica config; each must be of use, and agree with it."""
    found: dict[str, Profile] = {}
    possible = {
        _key(spec, gpu, size): engine_options(entry.engine, gpu)
        for entry, spec in loaded.models
        for _, gpu in loaded.gpus
        for size in _sizes(entry, spec, gpu)
    }
    for i, path in enumerate(loaded.service.profiles):
        where = document.where(("profiles", i))
        mend = f"; measure it: orchestrator profile measure MODEL --gpu TYPE --save {path}"
        _require_file(loaded.directory / path, where, mend)
        profile = documents.read(loaded.directory / path, Profile)
        key = profile.config.key
        if key not in possible:
            raise InputError(
                f"{where}: it is of {key}, which this service does not consider; "
                f"it considers {', '.join(sorted(possible))}"
            )
        if key in found:
            raise InputError(f"{where}: a second profile of {key}")
        if differs := _differing(profile.config.engine, possible[key]):
            raise InputError(f"{where}: measured with {differs}; measure again, or set the same")
        found[key] = profile
    return found


def _key(spec: ModelSpec, gpu: GpuType, size: int) -> str:
    return ReplicaConfig(model=spec.name, gpu=gpu.name, tensor_parallel=size).key


def _differing(measured: EngineOptions, asked: EngineOptions) -> str:
    """Engine limits in which a measured profile is not what the service asks for."""
    names = ("max_num_seqs", "max_num_batched_tokens", "max_model_len")
    pairs = [(n, getattr(measured, n), getattr(asked, n)) for n in names]
    return ", ".join(
        f"{n} {have}, not the {want} asked for"
        for n, have, want in pairs
        if want is not None and have != want
    )


def _options(loaded: LoadedService) -> tuple[tuple[Option, ...], dict[str, tuple[str, ...]]]:
    """Every replica that could be bought, and per GPU type why other configs could not."""
    options: list[Option] = []
    misfits: dict[str, list[str]] = {}
    for entry, gpu in loaded.gpus:
        for model_entry, spec in loaded.models:
            fits: list[Option] = []
            refused = [f"{spec.name} splits into none of the sizes to try that fit a node"]
            for size in _sizes(model_entry, spec, gpu):
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


def _sizes(entry: ModelEntry, spec: ModelSpec, gpu: GpuType) -> tuple[int, ...]:
    """Tensor-parallel sizes that vLLM can run on one node of this type."""
    asked = sorted(set(entry.tensor_parallel or TENSOR_PARALLEL_SIZES))
    return tuple(s for s in asked if s <= gpu.max_per_node and spec.splits_into(s))


def _profile(
    loaded: LoadedService, entry: ModelEntry, spec: ModelSpec, gpu: GpuType, size: int
) -> Profile | DoesNotFit:
    engine = engine_options(entry.engine, gpu)
    estimated = roofline_profile(spec, gpu, size, engine)
    known = loaded.profiles.get(_key(spec, gpu, size))
    return known or estimated


def engine_options(limits: EngineLimits, gpu: GpuType) -> EngineOptions:
    """vLLM's defaults for a GPU type, with what the service overrides."""
    options = default_engine(gpu).model_copy(update=limits.model_dump(exclude_none=True))
    if options.max_num_batched_tokens < options.max_num_seqs:
        raise InputError(
            f"engine on {gpu.name}: max_num_batched_tokens is {options.max_num_batched_tokens}, "
            f"expected at least max_num_seqs, {options.max_num_seqs}"
        )
    return options


def _usd_per_hour(entry: GpuEntry, gpu: GpuType) -> float:
    price = entry.usd_per_hour or gpu.price.usd_per_hour(entry.market)
    if price is None:
        raise InputError(f"no {entry.market} price is known for {gpu.name}; set usd_per_hour")
    return price
