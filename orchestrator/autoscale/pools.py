"""What each replica group carries of each request class, and how much a whole fleet carries.

Work is measured in dollars: a request's work is the rent it takes on the group where it is
cheapest at full load. So requests of unlike sizes, and GPUs of unlike kinds, have one scale.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from placement.plan import AUTO, Plan, ReplicaGroup
from profiler import capacity
from profiler.core import SizeBucket, Slo
from profiler.rates import max_rates

Floats = NDArray[np.float64]
Bucket = tuple[str, str]
"""A stream and the key of one of its size buckets."""

DIRECTIONS = 1024
UNCHECKED = 10**6


@dataclass(frozen=True)
class Pool:
    """The groups that run one model, and the request classes they answer.

    ``share[c]`` is the part of a class that this model answers; where a plan sends one class to
    several models, its own shares say how much each takes, so quality stays as planned.
    ``load_s[c, g]`` is replica-seconds per request of class c on group g, infinite where it
    cannot meet the SLO. ``fixed[c, g]``, if given, is which share of a class goes where, for
    routers that keep to the plan's shares; without it a class goes wherever there is room.
    """

    model: str
    groups: tuple[str, ...]
    usd_per_s: Floats
    classes: tuple[Bucket, ...]
    share: Floats
    planned_rps: Floats
    load_s: Floats
    minimum: NDArray[np.int64]
    maximum: NDArray[np.int64]
    fixed: Floats | None = None

    @cached_property
    def work_usd(self) -> Floats:
        """Rent that one request of each class takes where it is cheapest, ``[classes]``."""
        cheapest: Floats = (self.load_s * self.usd_per_s).min(axis=1)
        return np.where(np.isfinite(cheapest), cheapest, 0.0)

    def work(self, rates_rps: Floats) -> float:
        """Dollars of work per second at these rates of the classes' whole streams."""
        return float(rates_rps * self.share @ self.work_usd)

    def capacity(self, rates_rps: Floats, replicas: Floats) -> Floats:
        """Most work, in dollars per second, that fleets carry inside the SLO, in this mix.

        The greatest multiple of the mix that can be spread over a fleet is the least, over all
        prices pi of a unit of load, of sum_g pi_g n_g / sum_c rate_c min_g (load_cg pi_g): linear
        programming duality. Of two types the prices at which some class costs the same on both
        are enough; of more, combinations of those are tried, so it is never too low.

        Args:
            rates_rps: the mix, ``[classes]``; its scale does not matter.
            replicas: ``[fleets, groups]``.

        Returns:
            ``[fleets]``.
        """
        work = self.work(rates_rps)
        if work <= 0:
            return np.full(len(replicas), np.inf)
        prices, least = self._directions
        demand = (rates_rps * self.share) @ least
        busy = demand > 0
        worth = replicas @ prices[:, busy]
        found: Floats = (worth / demand[busy]).min(axis=1) * work
        return found

    @cached_property
    def _directions(self) -> tuple[Floats, Floats]:
        """Prices of load ``[groups, K]``; each class's cheapest load at them, ``[classes, K]``."""
        count = len(self.groups)
        if self.fixed is not None:
            served = np.where(self.fixed > 0, self.load_s, 0.0)
            return np.eye(count), np.where(np.isfinite(served), served, 0.0) * self.fixed
        each = int(DIRECTIONS ** (1 / max(count - 1, 1)))
        ratios = [_ratios(self.load_s[:, 0], self.load_s[:, g], each) for g in range(1, count)]
        rows = [(1.0, *r) for r in itertools.product(*ratios)]
        rows += [tuple(float(g == h) for h in range(count)) for g in range(1, count)]
        prices = np.array(rows).T
        finite = np.where(np.isfinite(self.load_s), self.load_s, np.nan)
        priced = finite[:, :, None] * prices[None]
        least = np.where(np.isfinite(priced), priced, np.inf).min(axis=1)
        return prices, np.where(np.isfinite(least), least, 0.0)


def _ratios(first: Floats, other: Floats, most: int) -> Floats:
    """Prices of a unit of load on another group, where it costs 1 on the first.

    Those at which some class costs the same on both: there the best price changes. And zero.
    """
    both = np.isfinite(first) & np.isfinite(other)
    ties = np.unique(first[both] / other[both])
    if len(ties) > most - 1:
        ties = np.quantile(ties, np.linspace(0, 1, max(most - 1, 2)))
    return np.concatenate([[0.0], ties])


def pools_of(
    plan: Plan,
    *,
    minimum: dict[str, int] | None = None,
    maximum: dict[str, int] | None = None,
    keep_shares: bool = False,
    headroom: float = 1.0,
) -> tuple[Pool, ...]:
    """The pools of a plan, one a model.

    ``minimum`` and ``maximum`` are replicas by group, 0 and any number where they say nothing.
    ``headroom`` is how full a replica may be, over its highest rate inside the SLO.
    """
    minimum, maximum = minimum or {}, maximum or {}
    models = list(dict.fromkeys(g.config.model for g in plan.groups))
    return tuple(_pool(plan, model, minimum, maximum, keep_shares, headroom) for model in models)


def _pool(
    plan: Plan,
    model: str,
    minimum: dict[str, int],
    maximum: dict[str, int],
    keep_shares: bool,
    headroom: float,
) -> Pool:
    groups = [g for g in plan.groups if g.config.model == model]
    names = tuple(g.name for g in groups)
    merged: dict[Bucket, list[tuple[SizeBucket, float, dict[str, float], Slo]]] = {}
    for r in plan.routes:
        if r.stream in (AUTO, model):
            entry = (r.bucket, r.rate_rps, r.shares, r.slo or plan.slo)
            merged.setdefault((r.stream, r.bucket.key), []).append(entry)
    classes = tuple(merged)
    rates = np.array([sum(e[1] for e in entries) for entries in merged.values()])
    shares = np.zeros((len(classes), len(groups)))
    for c, entries in enumerate(merged.values()):
        for _, rate, share, _ in entries:
            shares[c] += [rate / rates[c] * share.get(n, 0.0) for n in names]
    load_s = np.full((len(classes), len(groups)), np.inf)
    for slo in {e[0][3] for e in merged.values()}:
        rows = [c for c, e in enumerate(merged.values()) if e[0][3] == slo]
        buckets = [e[0][0] for k, e in enumerate(merged.values()) if k in rows]
        for g, group in enumerate(groups):
            load_s[rows, g] = loads_s(group, buckets, slo) / headroom
    share = np.minimum(shares.sum(axis=1), 1.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        fixed = np.where(share[:, None] > 0, shares / share[:, None], 0.0)
    return Pool(
        model=model,
        groups=names,
        usd_per_s=np.array([g.usd_per_hour / 3600 for g in groups]),
        classes=classes,
        share=share,
        planned_rps=rates,
        load_s=load_s,
        minimum=np.array([minimum.get(n, 0) for n in names]),
        maximum=np.array([maximum.get(n, UNCHECKED) for n in names]),
        fixed=fixed if keep_shares else None,
    )


def loads_s(group: ReplicaGroup, buckets: Sequence[SizeBucket], slo: Slo) -> Floats:
    """Replica-seconds that a request of each bucket takes at the highest rate inside the SLO."""
    inputs = np.array([b.input_tokens for b in buckets], dtype=float)
    outputs = np.array([b.output_tokens for b in buckets], dtype=float)
    rate = max_rates(group.profile, inputs, outputs, slo).rate_rps
    with np.errstate(divide="ignore"):
        return np.where(rate > 0, 1 / rate, np.inf)


def concurrency(group: ReplicaGroup, buckets: Sequence[SizeBucket], rates: Floats, slo: Slo) -> int:
    """Requests that a replica of the group has in hand at the highest rate inside the SLO.

    Each class fills a part of the replica's time in proportion to its work there; in that part
    there are as many as the class alone would keep, at the SLO's quantile (`profiler.capacity`):
    those that decode, and, by Little's law, those that wait for their first token.
    """
    inputs = np.array([b.input_tokens for b in buckets], dtype=float)
    outputs = np.array([b.output_tokens for b in buckets], dtype=float)
    rate = max_rates(group.profile, inputs, outputs, slo).rate_rps
    replica, fits = capacity.Replica(group.profile, inputs, outputs), rate > 0
    running = np.maximum(replica.concurrency(rate), 0.0)
    ttft_s = np.minimum(replica.latency(rate, slo.attainment).ttft_s, slo.ttft_s)
    held = capacity.high_quantile(running, slo.attainment) + rate * ttft_s
    if not fits.any():
        return 1
    part = rates[fits] / rate[fits]
    return max(1, round(float(part @ held[fits] / part.sum())))
