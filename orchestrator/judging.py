"""A simulation held against the SLO: which requests met it, by stream, by group, over time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from orchestrator.simulation.load import Load, buckets_of
from orchestrator.simulation.result import FleetTimings
from orchestrator.simulator import Ints
from placement.plan import Plan
from profiler.core import Slo

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Met:
    """Per request: its limits, and whether it kept them. Requests not answered kept none.

    An answer of one token has no TPOT and is judged by TTFT alone. ``slo_index`` indexes ``slos``.
    """

    slos: tuple[Slo, ...]
    slo_index: Ints = field(repr=False)
    ttft: Bools = field(repr=False)
    tpot: Bools = field(repr=False)

    @property
    def both(self) -> Bools:
        """Whether it met its SLO."""
        return self.ttft & self.tpot


@dataclass(frozen=True)
class Kept:
    """How a stream's requests under one SLO fared.

    Shares are of all arrivals. ``by_group`` is (requests, those that met the SLO) of each group
    that was sent any.
    """

    stream: str
    slo: Slo
    requests: int
    ttft: float
    tpot: float
    both: float
    by_group: Mapping[str, tuple[int, int]]


def met(plan: Plan, timings: FleetTimings) -> Met:
    """Judge each request by the SLO of its class, or the plan's."""
    slos, index = _slos(plan, timings)
    ttft_s = np.array([s.ttft_s for s in slos])[index]
    tpot_s = np.array([s.tpot_s for s in slos])[index]
    answered = ~timings.rejected
    tpot = timings.tpot_s
    return Met(
        slos=slos,
        slo_index=index,
        ttft=answered & (timings.ttft_s <= ttft_s),
        tpot=answered & (np.isnan(tpot) | (tpot <= tpot_s)),
    )


def _slos(plan: Plan, timings: FleetTimings) -> tuple[tuple[Slo, ...], Ints]:
    """The SLOs asked, and the one of each request."""
    if all(r.slo is None for r in plan.routes):
        return (plan.slo,), np.zeros(len(timings.arrival_s), dtype=np.int64)
    load = Load(
        timings.arrival_s,
        timings.input_tokens,
        timings.output_tokens,
        np.zeros_like(timings.input_tokens),
        timings.stream,
        timings.streams,
    )
    classes, names = buckets_of(plan, load)
    of_class = {(r.stream, r.bucket.key): r.slo or plan.slo for r in plan.routes}
    slos = tuple(dict.fromkeys([*of_class.values(), plan.slo]))
    by_name = np.array([slos.index(of_class.get(n, plan.slo)) for n in names])
    return slos, by_name[classes]


def judge(plan: Plan, timings: FleetTimings, found: Met | None = None) -> tuple[Kept, ...]:
    """Every stream and SLO of which there are requests, in the streams' order."""
    found = found or met(plan, timings)
    kept = []
    for s, stream in enumerate(timings.streams):
        for k, slo in enumerate(found.slos):
            mine = (timings.stream == s) & (found.slo_index == k)
            if mine.any():
                kept.append(_kept(stream, slo, timings, found, mine))
    return tuple(kept)


def _kept(stream: str, slo: Slo, timings: FleetTimings, found: Met, mine: Bools) -> Kept:
    both = found.both[mine]
    sent = timings.group[mine] + 1  # those that were never sent come first
    counts = np.bincount(sent, minlength=len(timings.groups) + 1)
    good = np.bincount(sent, weights=both, minlength=len(timings.groups) + 1)
    return Kept(
        stream=stream,
        slo=slo,
        requests=int(mine.sum()),
        ttft=float(found.ttft[mine].mean()),
        tpot=float(found.tpot[mine].mean()),
        both=float(both.mean()),
        by_group={
            name: (int(n), int(g))
            for name, n, g in zip(timings.groups, counts[1:], good[1:], strict=True)
            if n
        },
    )
