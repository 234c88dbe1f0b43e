"""A service file with every name in it looked up; what cannot work is refused where it stands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.service import EngineLimits, GpuEntry, ModelEntry, Service, WorkloadSpec
from placement.plan import AUTO
from profiler import documents
from profiler.catalog import Catalog, load_catalog, resolve_model
from profiler.core import EngineOptions, GpuType, ModelSpec, Profile, ReplicaConfig
from profiler.errors import InputError, UnknownNameError
from profiler.roofline import default_engine

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
    for stream, spec in streams(service, models):
        if spec.trace is not None:
            at = ("workload",) if stream == AUTO else ("models", _index(models, stream), "workload")
            _require_file(directory / spec.trace, document.where((*at, "trace")))
    loaded = LoadedService(service, directory, catalog, models, gpus, {})
    check_limits(loaded, document)
    return replace(loaded, profiles=_profiles(loaded, document))


def streams(
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
    seen: set[tuple[str, str, str | None, int]] = set()
    for i, entry in enumerate(entries):
        try:
            gpu = catalog.gpu(entry.type)
        except UnknownNameError as error:
            raise InputError(f"{document.where(('gpus', i, 'type'))}: {error}") from None
        if entry.usd_per_hour is None and gpu.price.usd_per_hour(entry.market) is None:
            where = document.where(("gpus", i, "market"))
            raise InputError(f"{where}: no spot price is known for {gpu.name}; set usd_per_hour")
        offer = (gpu.name, entry.market, entry.region, entry.node.gpus if entry.node else 1)
        if offer in seen:
            where = document.where(("gpus", i, "type"))
            raise InputError(f"{where}: {gpu.name} ({entry.market}) is listed twice")
        seen.add(offer)
        yield entry, gpu


def _profiles(loaded: LoadedService, document: documents.Document) -> dict[str, Profile]:
    """The service's own profiles by replica config; each must be of use, and agree with it."""
    found: dict[str, Profile] = {}
    possible = {
        config_key(spec, gpu, size): engine_options(entry.engine, gpu)
        for entry, spec in loaded.models
        for _, gpu in loaded.gpus
        for size in sizes_of(entry, spec, gpu)
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


def config_key(spec: ModelSpec, gpu: GpuType, size: int) -> str:
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


def check_limits(loaded: LoadedService, document: documents.Document) -> None:
    """The names in the service's limits must be of its models, GPU types and files."""
    service = loaded.service
    models = {spec.name for _, spec in loaded.models}
    gpus = {gpu.name for _, gpu in loaded.gpus}
    for i, rule in enumerate(service.replicas):
        for key, name, known in (("model", rule.model, models), ("gpu", rule.gpu, gpus)):
            if name is not None and name not in known:
                where = document.where(("replicas", i, key))
                raise InputError(f"{where}: {UnknownNameError(key, name, known)}")
    named = dict(streams(service, loaded.models))
    for i, class_rule in enumerate(service.classes):
        if class_rule.stream is not None and class_rule.stream not in named:
            where = document.where(("classes", i, "stream"))
            raise InputError(f"{where}: {UnknownNameError('stream', class_rule.stream, named)}")
    if service.quality is not None and service.quality.outcomes is not None:
        where = document.where(("quality", "outcomes"))
        mend = "; make one: orchestrator profile quality"
        _require_file(loaded.directory / service.quality.outcomes, where, mend)
    if (keys := service.gateway.guard.keys) is not None:
        where = document.where(("gateway", "guard", "keys"))
        mend = f"; make one: orchestrator keys create --tenant NAME --file {keys}"
        _require_file(loaded.directory / keys, where, mend)
    if service.router is not None:
        where = document.where(("router", "artefact"))
        mend = "; make one: orchestrator router train"
        _require_file(loaded.directory / service.router.artefact, where, mend)
    if service.moving is not None and isinstance(service.moving.running, str):
        where = document.where(("moving", "running"))
        _require_file(loaded.directory / service.moving.running, where)


def sizes_of(entry: ModelEntry, spec: ModelSpec, gpu: GpuType) -> tuple[int, ...]:
    """Tensor-parallel sizes that vLLM can run on one node of this type."""
    asked = sorted(set(entry.tensor_parallel or TENSOR_PARALLEL_SIZES))
    return tuple(s for s in asked if s <= gpu.max_per_node and spec.splits_into(s))


def engine_options(limits: EngineLimits, gpu: GpuType) -> EngineOptions:
    """vLLM's defaults for a GPU type, with what the service overrides."""
    options = default_engine(gpu).model_copy(update=limits.model_dump(exclude_none=True))
    if options.max_num_batched_tokens < options.max_num_seqs:
        raise InputError(
            f"engine on {gpu.name}: max_num_batched_tokens is {options.max_num_batched_tokens}, "
            f"expected at least max_num_seqs, {options.max_num_seqs}"
        )
    return options
