"""What the planner is asked: request classes, the replicas that could serve them, limits."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from placement.limits import Limits
from placement.plan import AUTO, PlannedRouter
from profiler.capacity import lone_latency
from profiler.core import GpuType, Market, ModelSpec, Profile, SizeBucket, Slo
from profiler.rates import rates_of, why_infeasible

Floats = NDArray[np.float64]
MAX_NAME = 47


@dataclass(frozen=True)
class RequestClass:
    """Requests of one stream and size bucket, and of one difficulty where a router tells it.

    ``slo`` stands in for the service's; ``quality_floor`` is the least mean quality of this class.
    """

    stream: str
    bucket: SizeBucket
    rate_rps: float
    difficulty: int | None = None
    slo: Slo | None = None
    quality_floor: float | None = None

    def __str__(self) -> str:
        hard = "" if self.difficulty is None else f", difficulty {self.difficulty}"
        return f"{self.stream}: {self.bucket.key}{hard}"


class Pool(NamedTuple):
    """Where accelerators are bought: one type, market, region and size of node."""

    gpu: str
    market: Market
    region: str = ""
    node_gpus: int = 1

    def __str__(self) -> str:
        region = f", {self.region}" if self.region else ""
        nodes = f", nodes of {self.node_gpus}" if self.node_gpus > 1 else ""
        return f"{self.gpu} ({self.market.replace('_', '-')}{region}{nodes})"


@dataclass(frozen=True)
class Option:
    """A replica that could be bought: a profiled config, in one market and region, at one price.

    With ``node_gpus`` over 1 its accelerators come in whole nodes, and what is paid is the nodes
    (`Stock.usd_per_node_hour`); ``usd_per_hour`` is then the replica's part of a full node.
    """

    profile: Profile
    market: Market
    usd_per_hour: float
    region: str = ""
    node_gpus: int = 1

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
        region = f"-{self.region}" if self.region else ""
        nodes = f"-nodes{self.node_gpus}" if self.node_gpus > 1 else ""
        return dns_name(f"{self.model}-{self.gpu}-tp{self.gpus}{market}{region}{nodes}")

    @property
    def pool(self) -> Pool:
        """Where its accelerators are bought."""
        return Pool(self.gpu, self.market, self.region, self.node_gpus)

    @property
    def slot_gpus(self) -> int:
        """Accelerators of a node that a replica takes up: its own, rounded up to a size such that
        replicas whose sizes add up to no more than the nodes can always be packed into them.
        """
        return slot_gpus(self.gpus, self.node_gpus)

    @property
    def per_node(self) -> int:
        """Replicas that one node holds; 1 where accelerators are bought by the replica."""
        return max(1, self.node_gpus // self.slot_gpus)


@dataclass(frozen=True)
class Stock:
    """What can be had of one pool: accelerators, or None for any number, and how they are sold.

    With ``node_gpus`` over 1, only whole nodes at ``usd_per_node_hour`` each.
    """

    gpu: str
    market: Market
    available: int | None = None
    region: str = ""
    node_gpus: int = 1
    usd_per_node_hour: float = 0.0

    @property
    def pool(self) -> Pool:
        """What identifies it."""
        return Pool(self.gpu, self.market, self.region, self.node_gpus)


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
    ``quality[c, r]`` is the expected score of class c on option r, in [0, 1]; None: not known.
    ``headroom_of`` holds lower headrooms of single options, by name.
    """

    slo: Slo
    classes: tuple[RequestClass, ...]
    options: tuple[Option, ...]
    stocks: tuple[Stock, ...]
    headroom: float
    load_s: Floats
    quality: Floats | None = None
    limits: Limits = field(default_factory=Limits)
    excluded: tuple[Excluded, ...] = ()
    misfits: dict[str, tuple[str, ...]] = field(default_factory=dict)
    models: dict[str, ModelSpec] = field(default_factory=dict)
    gpus: dict[str, GpuType] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    router: PlannedRouter | None = None
    headroom_of: Mapping[str, float] = field(default_factory=dict)

    @property
    def rates_rps(self) -> Floats:
        """Rate of each class, ``[classes]``."""
        return np.array([c.rate_rps for c in self.classes])

    @property
    def usable(self) -> Floats:
        """Largest planned load of one replica, ``[options]``: its headroom, less the spot reserve.

        Where f of every spot group vanishes, 1 - f of its replicas carry the same load at the
        same headroom and by the same shares; so no second routing need be planned for that.
        """
        reserve = self.limits.spot_reserve
        return np.array(
            [
                min(self.headroom, self.headroom_of.get(o.name, self.headroom))
                * (1 - reserve if o.market == "spot" else 1)
                for o in self.options
            ]
        )

    def slo_of(self, request_class: RequestClass) -> Slo:
        """The class's own target, or the service's."""
        return request_class.slo or self.slo

    def only(self, gpu: str) -> Problem:
        """The same problem with one GPU type to choose from, and no demand for any other."""
        bounds = tuple(b for b in self.limits.replicas if b.gpu in (None, gpu))
        kept = self.part(options=[i for i, o in enumerate(self.options) if o.gpu == gpu])
        return replace(kept, limits=replace(self.limits, replicas=bounds))

    def part(
        self, *, classes: Sequence[int] | None = None, options: Sequence[int] | None = None
    ) -> Problem:
        """The same problem with some of its classes and options, and the stocks of those."""
        rows = range(len(self.classes)) if classes is None else classes
        columns = range(len(self.options)) if options is None else options
        kept = tuple(self.options[j] for j in columns)
        pools = {o.pool for o in kept}
        cells = np.ix_(np.array(rows, dtype=int), np.array(columns, dtype=int))
        return replace(
            self,
            classes=tuple(self.classes[i] for i in rows),
            options=kept,
            stocks=tuple(s for s in self.stocks if s.pool in pools),
            load_s=self.load_s[cells],
            quality=None if self.quality is None else self.quality[cells],
        )


def quality_matrix(
    classes: Sequence[RequestClass], options: Sequence[Option], by_model: Mapping[str, float]
) -> Floats:
    """Quality ``[classes, options]`` where each model's is one number for every class."""
    row = np.array([by_model[o.model] for o in options], dtype=float)
    return np.tile(row, (len(classes), 1))


def load_matrix(
    classes: Sequence[RequestClass],
    options: Sequence[Option],
    slo: Slo,
    *,
    served_share: float = 1.0,
) -> Floats:
    """Load of each class on each option, ``[classes, options]``; see `Problem.load_s`.

    ``slo`` is for classes without their own. With ``served_share`` below 1 every attainment is
    divided by it: those served make up for those that are not.
    """
    load = np.full((len(classes), len(options)), np.nan)
    by_slo: dict[Slo, list[int]] = {}
    for i, c in enumerate(classes):
        by_slo.setdefault(c.slo or slo, []).append(i)
    for target, rows in by_slo.items():
        asked = target.model_copy(update={"attainment": target.attainment / served_share})
        load[rows] = _loads([classes[i] for i in rows], options, asked)
    return load


def _loads(classes: Sequence[RequestClass], options: Sequence[Option], slo: Slo) -> Floats:
    inputs = np.array([c.bucket.input_tokens for c in classes])
    outputs = np.array([c.bucket.output_tokens for c in classes])
    profiles = list(dict.fromkeys(o.profile for o in options))
    load_of: dict[Profile, Floats] = {}
    for profile, found in zip(profiles, rates_of(profiles, inputs, outputs, slo), strict=True):
        with np.errstate(divide="ignore"):
            load_of[profile] = np.where(found.rate_rps > 0, 1 / found.rate_rps, np.nan)
    load = np.full((len(classes), len(options)), np.nan)
    for j, option in enumerate(options):
        serves = np.array([c.stream in (AUTO, option.model) for c in classes])
        load[:, j] = np.where(serves, load_of[option.profile], np.nan)
    return load


def exclude_unservable(problem: Problem) -> Problem:
    """Take out the classes that no option can serve, each with the reason of its best option."""
    served = np.atleast_1d(~np.isnan(problem.load_s).all(axis=1)).tolist()
    excluded = tuple(
        Excluded(c, _best_reason(c, problem.options, problem.slo_of(c)))
        for c, ok in zip(problem.classes, served, strict=True)
        if not ok
    )
    kept = problem.part(classes=[i for i, ok in enumerate(served) if ok])
    return replace(kept, excluded=problem.excluded + excluded)


def lost_share(problem: Problem) -> float:
    """The largest share of any one stream that is excluded."""
    total, lost = defaultdict[str, float](float), defaultdict[str, float](float)
    for c in problem.classes:
        total[c.stream] += c.rate_rps
    for e in problem.excluded:
        total[e.request_class.stream] += e.request_class.rate_rps
        lost[e.request_class.stream] += e.request_class.rate_rps
    return max((lost[s] / total[s] for s in total), default=0.0)


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


def slot_gpus(gpus: int, node_gpus: int) -> int:
    """The least size not under ``gpus`` in a chain of divisors of a node, such as 1, 2, 4, 8.

    Sizes of which each divides the next pack into nodes without waste, so adding them up is
    enough to know whether they fit. Not under a node: the replica does not fit, and its own size.
    """
    size, slot = max(node_gpus, gpus), max(node_gpus, gpus)
    while size > 1 and node_gpus >= gpus:
        size //= next(d for d in range(2, size + 1) if size % d == 0)
        if size < gpus:
            break
        slot = size
    return slot if node_gpus > 1 else gpus


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
