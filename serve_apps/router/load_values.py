"""A small network that says which model a request should go to under load, as one plain file.

It was trained in the simulator (`orchestrator router train-load`). Here it is only read and
asked: three small matrix products in NumPy, some ten microseconds. The file is NumPy's npz, read
with ``allow_pickle=False``; what it says of itself is JSON text.
"""

from __future__ import annotations

import io
import json
import math
import os
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from placement.plan import Plan
from profiler.errors import InputError
from serve_apps.router.loads import LoadGrid

KIND, VERSION = "orchestrator-load-policy", 1
DESCRIPTION = "description"
PER_MODEL, SHARED = 5, 2
MOST_BYTES = 16 * 2**20
"""Of all arrays unpacked; a policy has some tens of kilobytes, but a small file may claim more."""
UNFIT = (
    OSError,
    zipfile.BadZipFile,
    zlib.error,
    ValueError,
    LookupError,
    TypeError,
    EOFError,
    AttributeError,
    RuntimeError,
)
"""What reading arrays raises that no training wrote."""
MOST = 4.0
"""Features are cut here: beyond it a queue is simply too long."""

Floats = NDArray[np.float64]
Layers = tuple[tuple[Floats, Floats], ...]


class Option(Protocol):
    """One model's answer to one request; what `orchestrator.simulation` and a gateway can tell."""

    @property
    def model(self) -> str:
        """Its name."""

    @property
    def quality(self) -> float:
        """Predicted, in [0, 1]."""

    @property
    def predicted_ttft_s(self) -> float:
        """From now, queue included; infinite where no engine is left."""

    @property
    def feasible(self) -> bool:
        """It would begin in time."""

    @property
    def in_flight(self) -> int:
        """On all its engines."""

    @property
    def queued(self) -> int:
        """Waiting for them."""


@dataclass(frozen=True)
class Pool:
    """What the network was trained for; features are in units of what this pool can do.

    Per model, the dearest first: replicas, the rate that they keep inside the SLO, and how many
    requests they then hold.
    """

    models: tuple[str, ...]
    replicas: tuple[int, ...]
    stands_on: tuple[str, ...]
    capacity_rps: tuple[float, ...]
    full_batch: tuple[float, ...]
    ttft_s: float
    tpot_s: float

    @property
    def identity(self) -> tuple[object, ...]:
        """Two pools alike in this are the same to a policy."""
        slo = self.ttft_s, self.tpot_s
        return self.models, self.replicas, self.stands_on, slo


def pool_of(plan: Plan) -> Pool:
    """The pool of a plan, with its routes' mean request as the measure of capacity."""
    rate = sum(r.rate_rps for r in plan.routes)
    output = sum(r.rate_rps * r.bucket.output_tokens for r in plan.routes) / max(rate, 1e-9)
    found: dict[str, list[Any]] = {}
    for g in plan.groups:
        grid = LoadGrid(g.profile, plan.slo)
        loads = [
            (r.rate_rps, grid(r.bucket.input_tokens, r.bucket.output_tokens)) for r in plan.routes
        ]
        able = [(w, s) for w, s in loads if math.isfinite(s)]
        mean_s = sum(w * s for w, s in able) / sum(w for w, _ in able) if able else math.inf
        own = found.setdefault(g.config.model, [0, "", 0.0, 0.0])
        own[0] += g.replicas
        own[1] += f"{g.replicas}x{g.config.gpu}x{g.config.tensor_parallel} "
        own[2] += g.replicas / mean_s
        own[3] = max(own[3], g.usd_per_hour * mean_s if able else math.inf)
    order = sorted(found, key=lambda m: (-found[m][3], m))
    capacity = tuple(max(found[m][2], 1e-9) for m in order)
    return Pool(
        models=tuple(order),
        replicas=tuple(found[m][0] for m in order),
        stands_on=tuple(found[m][1].strip() for m in order),
        capacity_rps=capacity,
        full_batch=tuple(max(c * output * plan.slo.tpot_s, 1.0) for c in capacity),
        ttft_s=plan.slo.ttft_s,
        tpot_s=plan.slo.tpot_s,
    )


def features(
    pool: Pool, options: Sequence[Option], arrival_rate_rps: float, input_tokens: int
) -> Floats:
    """``[PER_MODEL * models + SHARED]``; ``options`` in the pool's order."""
    found = [
        math.log1p(arrival_rate_rps / pool.capacity_rps[0]),
        math.log(max(input_tokens, 1)) / 10.0,
    ]
    for o, full in zip(options, pool.full_batch, strict=True):
        found += (
            o.quality,
            min(o.in_flight / full, MOST),
            min(o.queued / full, MOST),
            min(o.predicted_ttft_s / pool.ttft_s, MOST),
            1.0 if o.feasible else 0.0,
        )
    return np.array(found)


@dataclass(frozen=True)
class Verdict:
    """How it did beside the priced policy on arrivals that neither had seen.

    Figures are shares of what the large model would be worth, met SLOs only, over ``patterns``
    arrival patterns; ``error`` is the standard error of the paired difference.
    """

    learned: float
    priced: float
    error: float
    learned_attainment: float
    priced_attainment: float
    patterns: int
    worth_usd: float

    @property
    def better(self) -> bool:
        """It beats the priced policy by more than chance, and keeps the SLO as well."""
        kept = self.learned_attainment >= self.priced_attainment - 0.005
        return kept and self.learned - self.priced > 2 * self.error


@dataclass(frozen=True)
class LoadValues:
    """The network (ReLU between layers), the pool it is for, and what came of its trial."""

    pool: Pool
    layers: Layers
    verdict: Verdict

    def __post_init__(self) -> None:
        width = PER_MODEL * len(self.pool.models) + SHARED
        for weight, bias in self.layers:
            if weight.ndim != 2 or weight.shape[0] != width or bias.shape != (weight.shape[1],):
                raise ValueError(f"a layer of shape {weight.shape} does not follow {width} values")
            width = weight.shape[1]
        if not self.layers or width != len(self.pool.models):
            raise ValueError(f"the last layer has {width} values, not one for each model")
        if not all(np.isfinite(w).all() and np.isfinite(b).all() for w, b in self.layers):
            raise ValueError("a weight is not a finite number")

    def values(self, found: Floats) -> Floats:
        """What each model is worth to the service as a whole, up to a constant."""
        x = found
        for k, (weight, bias) in enumerate(self.layers):
            x = x @ weight + bias
            if k + 1 < len(self.layers):
                x = np.maximum(x, 0.0)
        return x

    def best(
        self, options: Sequence[Option], arrival_rate_rps: float, input_tokens: int
    ) -> str | None:
        """The feasible model of most worth; None when there is none. Options in any order."""
        by_name = {o.model: o for o in options}
        ordered = [by_name[m] for m in self.pool.models]
        value = self.values(features(self.pool, ordered, arrival_rate_rps, input_tokens))
        able = [k for k, o in enumerate(ordered) if o.feasible]
        return ordered[max(able, key=lambda k: value[k])].model if able else None

    def require_pool(self, plan: Plan, origin: str = "load policy") -> None:
        """Refuse a plan that it was not trained for.

        Raises:
            InputError: other models, replicas, hardware or SLO.
        """
        asked = pool_of(plan)
        if asked.identity == self.pool.identity:
            return
        raise InputError(
            f"{origin}: trained for {_words(self.pool)}, found a plan of {_words(asked)}; train "
            "one for this plan with `orchestrator router train-load`"
        )

    def save(self, path: Path) -> None:
        """Write it, in one step."""
        about = {"kind": KIND, "version": VERSION, "layers": len(self.layers)}
        about |= {"pool": asdict(self.pool), "verdict": asdict(self.verdict)}
        arrays = {DESCRIPTION: np.array(json.dumps(about))}
        for k, (weight, bias) in enumerate(self.layers):
            arrays |= {f"weight_{k}": weight, f"bias_{k}": bias}
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez_compressed(file, allow_pickle=False, **arrays)
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def load_values(path: Path) -> LoadValues:
    """Read a policy file.

    Raises:
        InputError: it is missing, damaged, of another kind or version, or not consistent.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; expected a load policy") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    return values_of(content, str(path))


def values_of(content: bytes, origin: str) -> LoadValues:
    """The policy whose file has this content; ``origin`` is what errors call it.

    Raises:
        InputError: it is damaged, of another kind or version, or not consistent.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as listing:
            size = sum(member.file_size for member in listing.infolist())
        if size > MOST_BYTES:
            raise ValueError(f"{size:,} bytes unpacked, expected at most {MOST_BYTES:,}")
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            about = json.loads(str(file[DESCRIPTION]))
            if about.get("kind") != KIND or about.get("version") != VERSION:
                raise InputError(
                    f"{origin}: expected a load policy of version {VERSION}, found "
                    f"{about.get('kind')!r} of version {about.get('version')!r}"
                )
            layers = tuple(
                (np.asarray(file[f"weight_{k}"], float), np.asarray(file[f"bias_{k}"], float))
                for k in range(int(about["layers"]))
            )
        pool: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in about["pool"].items()
        }
        return LoadValues(Pool(**pool), layers, Verdict(**about["verdict"]))
    except UNFIT as error:
        raise InputError(
            f"{origin}: expected a load policy (.npz) as `orchestrator router train-load` writes, "
            f"found another kind of file, or a damaged one ({error})"
        ) from None


def _words(pool: Pool) -> str:
    parts = [f"{m} on {on}" for m, on in zip(pool.models, pool.stands_on, strict=True)]
    return f"{', '.join(parts)} (TTFT {pool.ttft_s:g} s, TPOT {pool.tpot_s:g} s)"
