"""What the files of other tools leave unsaid, and what is filled in from it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from profiler.catalog import Catalog
from profiler.core import EngineOptions, GpuType, ModelSpec, Profile, Provenance, Slo
from profiler.errors import InputError, UnknownNameError
from profiler.roofline import DoesNotFit, roofline_profile


@dataclass(frozen=True)
class Setting:
    """What the user says of files that do not say it themselves.

    Attributes:
        gpus: a name in the file -> a GPU type of the catalog.
        engine: the scheduler limits the engine ran with; vLLM's defaults for the GPU when None.
        ttft_s: the limits that rates were measured under, as are ``tpot_s`` and ``attainment``.
        input_tokens: the sizes of a matrix's cells, or the edges of its buckets.
        read_on: the date of a file that has none.
    """

    catalog: Catalog
    model: ModelSpec
    gpus: Mapping[str, str] = field(default_factory=dict)
    tensor_parallel: int = 1
    engine: EngineOptions | None = None
    kv_capacity_tokens: int | None = None
    ttft_s: float | None = None
    tpot_s: float | None = None
    attainment: float | None = None
    input_tokens: tuple[float, ...] = ()
    output_tokens: tuple[float, ...] = ()
    read_on: dt.date = dt.date.min

    def gpu(self, name: str, where: str) -> GpuType:
        """The GPU type that a file calls ``name``.

        Raises:
            InputError: the catalog has no such type, and nobody said which is meant.
        """
        try:
            return self.catalog.gpu(self.gpus.get(name, name))
        except UnknownNameError as error:
            raise InputError(f"{where}: {error}; or say which it is: --gpu '{name}=TYPE'") from None

    def only_gpu(self, where: str, name: str | None = None) -> GpuType:
        """The GPU type of a file about one: as said, or else as the file names it.

        Raises:
            InputError: neither says.
        """
        if len(self.gpus) == 1:
            return self.catalog.gpu(next(iter(self.gpus.values())))
        if len(self.gpus) > 1:
            raise InputError(f"{where}: is about one GPU type, found {len(self.gpus)} in --gpu")
        if name is None:
            raise InputError(f"{where}: does not say on which GPU it ran; pass --gpu TYPE")
        return self.gpu(name, where)

    def slo(self, where: str, **of_file: float | None) -> Slo:
        """The SLO of measured rates: what the file says, completed by what the user does.

        Raises:
            InputError: a limit is said by neither, or differently by both.
        """
        limits = {}
        for name in ("ttft_s", "tpot_s", "attainment"):
            said, written = getattr(self, name), of_file.get(name)
            if said is not None and written is not None and said != written:
                raise InputError(
                    f"{where}: was measured under {name} {written:g}, found {said:g} as an option; "
                    "leave the option out"
                )
            limits[name] = said if written is None else written
        missing = [f"--{n.removesuffix('_s')}" for n in ("ttft_s", "tpot_s") if limits[n] is None]
        if missing:
            raise InputError(
                f"{where}: does not say which latency limits its rates kept; pass "
                f"{' and '.join(missing)} (seconds; a limit that was not kept: a large one)"
            )
        return Slo.model_validate({k: v for k, v in limits.items() if v is not None})

    def profile(self, gpu: GpuType, **replaced: Any) -> Profile:
        """A computed profile, with what a file tells in place of what was computed.

        Raises:
            InputError: by arithmetic the model does not fit, so limits cannot be computed.
        """
        found = roofline_profile(self.model, gpu, self.tensor_parallel, self.engine)
        if isinstance(found, DoesNotFit):
            raise InputError(
                f"{self.model.name} on {gpu.name} {found.reason}; is --tensor-parallel "
                f"{self.tensor_parallel} what was measured?"
            )
        if self.kv_capacity_tokens is not None:
            replaced.setdefault("kv_capacity_tokens", self.kv_capacity_tokens)
            longest = min(found.max_model_len, self.kv_capacity_tokens)
            replaced.setdefault("max_model_len", longest)
        return found.model_copy(update=replaced)

    def computed_law(self, gpu: GpuType, date: dt.date | None, note: str) -> Provenance:
        """Provenance of a profile with measured rates and a computed law."""
        return Provenance(
            kind="roofline", date=date or self.read_on, hardware=gpu.name, note=f"{note}; the law "
            "and the limits are computed, an estimate",
        )  # fmt: skip
