"""Profiles looked up in AIConfigurator's database of measured kernels; needs the extra ``silicon``.

The database (package aiconfigurator-core) times the operations of a model on a system and adds
them up to engine steps. Steps over a small design (sequences x context, prompts, both together)
are fitted by the same least squares as measured ones. What it does not time is the engine's work
on the CPU between steps, so its steps are a little short.

Profiles are kept in the user's cache directory, since a look-up takes a second or so.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from profiler import documents
from profiler.core import (
    EngineOptions,
    GpuType,
    ModelSpec,
    Profile,
    Provenance,
    ReplicaConfig,
)
from profiler.errors import InputError, OrchestratorError
from profiler.hf_config import model_from_hf
from profiler.roofline import DoesNotFit, default_engine, roofline_profile
from profiler.step_fit import Point, fit_points

PACKAGE = "aiconfigurator-core"
INSTALL = "pip install 'llm-orchestrator[silicon]'"
ENGINE = "vllm"
SYSTEMS = {
    "A100-80GB": "a100_sxm", "A100": "a100_sxm", "H100": "h100_sxm", "H200": "h200_sxm",
    "L40S": "l40s", "B200": "b200_sxm", "B300": "b300_sxm", "GB200": "gb200", "GB300": "gb300",
    "RTX-PRO-6000": "rtx_pro_6000_server",
}  # fmt: skip
"""Catalog names of the GPU types whose kernels the database has."""
SEQUENCES = (1, 4, 16, 64, 256)
CONTEXTS = (256, 1024, 4096, 16384)
PROMPTS = (256, 1024, 4096)
MIXED = ((512, 8), (2048, 32), (2048, 128))  # prompt tokens beside sequences that decode
MIXED_CONTEXT = 1024
CACHE_FORMAT = 1  # of what is kept; a change of the design or of the fit needs the next one
WEIGHTS = {
    "bf16": "bfloat16", "fp16": "bfloat16", "fp8": "fp8", "int8": "int8_wo", "int4": "int4_wo",
    "fp4": "nvfp4",
}  # fmt: skip
KV = {"bf16": "bfloat16", "fp16": "bfloat16", "fp8": "fp8", "int8": "int8"}


@dataclass(frozen=True)
class NoData:
    """A replica config that the database cannot answer for, and why."""

    config: ReplicaConfig
    reason: str


def silicon_profile(
    model: ModelSpec,
    gpu: GpuType,
    tensor_parallel: int = 1,
    engine: EngineOptions | None = None,
) -> Profile | DoesNotFit | NoData:
    """The profile of ``model`` on some GPUs of one type by the database, or why there is none.

    The KV capacity is the roofline's: the database has no measurement of memory.

    Raises:
        InputError: the package is not installed; the message says how to install it.
    """
    version = package_version()
    engine = engine or default_engine(gpu)
    estimated = roofline_profile(model, gpu, tensor_parallel, engine)
    if isinstance(estimated, DoesNotFit):
        return estimated
    kept = _cache_file(version, model, gpu, estimated.config)
    if (found := _kept(kept)) is not None:
        return found
    looked_up = _look_up(model, estimated, version)
    if isinstance(looked_up, Profile):
        _keep(kept, looked_up)
    return looked_up


def silicon_or_roofline(
    model: ModelSpec,
    gpu: GpuType,
    tensor_parallel: int = 1,
    engine: EngineOptions | None = None,
) -> Profile | DoesNotFit:
    """As `silicon_profile`; where the database has no answer, the roofline's, and why in its note.

    Raises:
        InputError: the package is not installed.
    """
    found = silicon_profile(model, gpu, tensor_parallel, engine)
    if not isinstance(found, NoData):
        return found
    estimated = roofline_profile(model, gpu, tensor_parallel, engine)
    if isinstance(estimated, DoesNotFit):
        return estimated
    provenance = estimated.provenance
    note = f"{provenance.note}; {found.reason}"
    return estimated.model_copy(update={"provenance": provenance.model_copy(update={"note": note})})


def package_version() -> str:
    """The installed version of the database.

    Raises:
        InputError: it is not installed.
    """
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        raise InputError(
            f"measured kernel times need {PACKAGE}, which is not installed: {INSTALL}"
        ) from None


def config_of(model: ModelSpec) -> Path | None:
    """A ``config.json`` that the database can read: beside the weights, or of the same shape.

    A model of the same shape costs the same, so fine-tuned variants find their base.
    """
    own = Path(model.weights).expanduser() / "config.json"
    return own if own.is_file() else _bundled().get(_shape(model))


def known_models() -> tuple[str, ...]:
    """The names of the models that come with the database, whose shape this program can read."""
    return tuple(sorted(_name(p) for p in _bundled().values()))


@contextlib.contextmanager
def open_engine(
    model: ModelSpec, config: Path, system: str, tensor_parallel: int, version: str
) -> Iterator[Any]:
    """The database's engine for a model on a system, with its warnings (on its own files) off.

    It is given a directory with the config: what it took for a hub name it would try to download.
    """
    from aiconfigurator_core.sdk.engine import EngineHandle

    logger = logging.getLogger("aiconfigurator_core")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with tempfile.TemporaryDirectory() as directory:
            shutil.copy(config, Path(directory, "config.json"))
            yield EngineHandle.compile(
                directory,
                system,
                ENGINE,
                backend_version=version,
                **_layout(model, model_from_hf(str(config)), tensor_parallel),
            )
    finally:
        logger.setLevel(level)


def _layout(model: ModelSpec, written: ModelSpec, tensor_parallel: int) -> dict[str, Any]:
    """Parallel sizes and dtypes; where the config already says the dtype, its own kind of it."""
    layout: dict[str, Any] = {"tp_size": tensor_parallel}
    layout["kvcache_quant_mode"] = KV.get(model.kv_dtype)
    if model.experts is not None:
        layout["moe_tp_size"] = tensor_parallel
    if model.weight_dtype != written.weight_dtype:
        layout["gemm_quant_mode"] = WEIGHTS.get(model.weight_dtype)
        if model.experts is not None:
            layout["moe_quant_mode"] = layout["gemm_quant_mode"]
    return layout


def _look_up(model: ModelSpec, estimated: Profile, version: str) -> Profile | NoData:
    config = estimated.config
    found = database_steps(model, estimated)
    if isinstance(found, NoData):
        return found
    points, engine_version = found
    fit = fit_points(points)
    return Profile(
        config=config,
        step_time=fit.law,
        step_time_95=(fit.low, fit.high),
        kv_capacity_tokens=estimated.kv_capacity_tokens,
        max_model_len=estimated.max_model_len,
        provenance=Provenance(
            kind="silicon",
            date=dt.datetime.now(tz=dt.UTC).date(),
            hardware=f"{config.tensor_parallel} x {SYSTEMS[config.gpu]}",
            engine=f"{PACKAGE} {version} ({ENGINE} {engine_version})",
            note="measured kernels added up; errors are those of the fit to them",
            points=len(points),
            tpot_error=fit.median_error(points, "decode"),
            ttft_error=fit.median_error(points, "prefill"),
        ),
    )


def database_steps(model: ModelSpec, estimated: Profile) -> tuple[list[Point], str] | NoData:
    """The database's time of each step of the design that fits the replica, and its engine version.

    ``estimated`` gives the replica config, the KV capacity and the longest sequence.
    """
    config = estimated.config
    system, file = SYSTEMS.get(config.gpu), config_of(model)
    if system is None:
        return NoData(config, _no_gpu(config.gpu))
    if file is None:
        return NoData(config, _no_model(model))
    try:
        version = _engine_version(system)
        with open_engine(model, file, system, config.tensor_parallel, version) as engine:
            return list(_steps(engine, estimated)), version
    except (ValueError, RuntimeError, KeyError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        return NoData(config, f"the database cannot time it: {reason[0][:200]}")


def _steps(engine: Any, estimated: Profile) -> Iterator[Point]:
    """The database's time of each step of the design that the replica could run."""
    most = estimated.config.engine.max_num_seqs
    for context in CONTEXTS:
        if context > estimated.max_model_len:
            continue
        for n in (s for s in SEQUENCES if s <= most):
            if n * context <= estimated.kv_capacity_tokens:
                seconds = engine.decode_step_latency(n, context, 2) / 1e3
                yield Point("decode", seconds, sequences=n, kv_tokens=n * context)
    for prompt in (p for p in PROMPTS if p <= estimated.max_model_len):
        yield Point("prefill", engine.predict_prefill_latency(1, prompt) / 1e3, 1, prompt)
    for prompt, n in MIXED:
        held = n * MIXED_CONTEXT
        if n <= most and held + prompt <= estimated.kv_capacity_tokens:
            seconds = engine.mixed_step_latency(prompt, n, MIXED_CONTEXT, 2) / 1e3
            yield Point("decode", seconds, 1, prompt, n, held)


def _engine_version(system: str) -> str:
    """The newest version of our engine that the database has kernels of."""
    from aiconfigurator_core.sdk.perf_database import get_supported_databases

    versions = get_supported_databases().get(system, {}).get(ENGINE, [])
    if not versions:
        raise ValueError(f"it has no kernels of {ENGINE} on {system}")
    return str(versions[-1])


Shape = tuple[int, int, int, int, int]


def _shape(model: ModelSpec) -> Shape:
    cached = model.kv_latent_dim or model.kv_heads * model.head_dim
    return (model.layers, model.hidden_size, cached, model.total_params, model.active_params)


@functools.cache
def _bundled() -> dict[Shape, Path]:
    found: dict[Shape, Path] = {}
    for path in sorted(_configs().glob("*_config.json")):
        if "hf_quant" not in path.name:
            with contextlib.suppress(OrchestratorError):
                found.setdefault(_shape(model_from_hf(str(path))), path)
    return found


def _name(config: Path) -> str:
    return config.name.removesuffix("_config.json").replace("--", "/", 1)


def _configs() -> Path:
    return Path(str(resources.files("aiconfigurator_core"))) / "model_configs"


def _no_gpu(name: str) -> str:
    from profiler.errors import nearest

    known = [g for g in SYSTEMS if g != "A100"]
    stem = name.split("-", maxsplit=1)[0]
    close = next((g for g in known if g.startswith(stem)), None) or nearest(name, known)
    hint = f"the nearest it has is {close}" if close else f"it has {', '.join(known)}"
    return f"the database has no kernels of {name}; {hint}"


def _no_model(model: ModelSpec) -> str:
    by_size = sorted(_bundled(), key=lambda shape: abs(shape[3] - model.total_params))
    close = f"; the nearest in size is {_name(_bundled()[by_size[0]])}" if by_size else ""
    return f"the database has no model of the shape of {model.name}{close}"


def _cache_file(version: str, model: ModelSpec, gpu: GpuType, config: ReplicaConfig) -> Path:
    # The price is no part of the question.
    asked = [
        CACHE_FORMAT,
        version,
        model.model_dump(mode="json"),
        gpu.model_dump(mode="json", exclude={"price"}),
        config.model_dump(mode="json"),
    ]
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:24]
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "llm-orchestrator" / "silicon" / f"{digest}.json"


def _kept(path: Path) -> Profile | None:
    """What was kept, or None: a cache that cannot be read is looked up again."""
    try:
        return Profile.model_validate_json(path.read_bytes())
    except (OSError, ValueError):
        return None


def _keep(path: Path, profile: Profile) -> None:
    with contextlib.suppress(OSError):  # a cache that cannot be written costs only time
        path.parent.mkdir(parents=True, exist_ok=True)
        documents.write(path, profile.model_dump_json())
