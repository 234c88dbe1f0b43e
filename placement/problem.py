"""What the planner is asked: request classes, the replicas that could serve them, limits."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from placement.plan import AUTO
from profiler.capacity import lone_latency
from profiler.core import GpuType, Market, ModelSpec, Profile, SizeBucket, Slo
from profiler.rates import max_rates, why_infeasible

Floats = NDArray[np.float64]
MAX_NAME = 47


@dataclass(frozen=True)
class RequestClass:
    """Requests of one stream and size bucket."""

    stream: str
    bucket: SizeBucket
    rate_rps: float

    def __str__(self) -> str:
        return f"{self.stream}: {self.bucket.key}"


@dataclass(frozen=True)
class Option:
    """A replica that could be bought: a profiled config, in one market, at one price."""

    profile: Profile
    market: Market
    usd_per_hour: float

    @property
    def model(self) -> str:
        return self.profile.config.model

    @property
    def gpu(self) -> str:
        return self.profile.config.gpu

    @property
    def gpus(self) -> int:
        """Accelerators one replica takes."""
        return self.profile.config.tensor_parallel

    @property
    def name(self) -> str:
        """A DNS-1035 name, unique among the options of a problem."""
        market = "-spot" if self.market == "spot" else ""
        return dns_name(f"{self.model}-{self.gpu}-tp{self.gpus}{market}")


@dataclass(frozen=True)
class Stock:
    """How many accelerators of one type can be had in one market."""

    gpu: str
    market: Market
    available: int


@dataclass(frozen=True)
class Excluded:
    """A request class that no option can serve inside the SLO, and the limit it breaks."""

    request_class: RequestClass
    reason: str


@dataclass(frozen=True)
class Problem:
    """Classes, options and limits, with the load each class puts on each option.

    ``load_s[c, r]`` is 1 / (highest rate of class c on one replica r inside the SLO), in
    replica-seconds per request; NaN where the option cannot serve the class at all.
    """

    slo: Slo
    classes: tuple[RequestClass, ...]
    options: tuple[Option, ...]
    stocks: tuple[Stock, ...]
    headroom: float
    load_s: Floats
    quality: dict[str, float] = field(default_factory=dict)
    quality_target: float | None = None
    excluded: tuple[Excluded, ...] = ()
    misfits: dict[str, tuple[str, ...]] = field(default_factory=dict)
    models: dict[str, ModelSpec] = field(default_factory=dict)
    gpus: dict[str, GpuType] = field(default_factory=dict)

    @property
    def rates_rps(self) -> Floats:
        """Rate of each class, ``[classes]``."""
        return np.array([c.rate_rps for c in self.classes])

    def only(self, gpu: str) -> Problem:
        """The same problem with one GPU type to choose from."""
        keep = [i for i, o in enumerate(self.options) if o.gpu == gpu]
        return replace(
            self,
            options=tuple(self.options[i] for i in keep),
            stocks=tuple(s for s in self.stocks if s.gpu == gpu),
            load_s=self.load_s[:, keep],
        )


def load_matrix(classes: Sequence[RequestClass], options: Sequence[Option], slo: Slo) -> Floats:
    """Load of each class on each option, ``[classes, options]``; see `Problem.load_s`."""
    inputs = np.array([c.bucket.input_tokens for c in classes])
    outputs = np.array([c.bucket.output_tokens for c in classes])
    load = np.full((len(classes), len(options)), np.nan)
    known: dict[Profile, Floats] = {}
    for j, option in enumerate(options):
        if option.profile not in known:
            rate = max_rates(option.profile, inputs, outputs, slo).rate_rps
            with np.errstate(divide="ignore"):
                known[option.profile] = np.where(rate > 0, 1 / rate, np.nan)
        serves = np.array([c.stream in (AUTO, option.model) for c in classes])
        load[:, j] = np.where(serves, known[option.profile], np.nan)
    return load


def exclude_unservable(problem: Problem) -> Problem:
    """Take out the classes that no option can serve, each with the reason of its best option."""
    served = np.atleast_1d(~np.isnan(problem.load_s).all(axis=1)).tolist()
    excluded = tuple(
        Excluded(c, _best_reason(c, problem.options, problem.slo))
        for c, ok in zip(problem.classes, served, strict=True)
        if not ok
    )
    return replace(
        problem,
        classes=tuple(c for c, ok in zip(problem.classes, served, strict=True) if ok),
        load_s=problem.load_s[np.array(served, dtype=bool)],
        excluded=problem.excluded + excluded,
    )


def _best_reason(c: RequestClass, options: Sequence[Option], slo: Slo) -> str:
    """Why the option that comes nearest to the SLO for this class fails."""
    fitting = [o for o in options if c.stream in (AUTO, o.model)]
    if not fitting:
        return "no GPU type offered can hold the model"
    size = c.bucket.input_tokens, c.bucket.output_tokens

    def excess(option: Option) -> float:
        alone = lone_latency(option.profile, *size, slo)
        return float(max(alone.ttft_s[0] / slo.ttft_s, alone.tpot_s[0] / slo.tpot_s))

    best = min(fitting, key=excess)
    return f"{best.profile.config.key} at best: {why_infeasible(best.profile, *size, slo)}"


def dns_name(text: str) -> str:
    """``text`` as a DNS-1035 label: lower case, digits and dashes, starting with a letter.

    KubeRay refuses names over 47 characters; longer ones end in a hash of the whole.
    """
    label = "".join(ch if ch.isascii() and ch.isalnum() else "-" for ch in text.lower())
    label = "-".join(filter(None, label.split("-")))
    label = label if label[:1].isalpha() else f"m-{label}"
    if len(label) <= MAX_NAME:
        return label
    return f"{label[: MAX_NAME - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
