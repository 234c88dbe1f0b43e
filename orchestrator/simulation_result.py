"""A simulation in figures: attainment, goodput, cost, utilisation, percentiles, outcomes."""

from __future__ import annotations

import math

import numpy as np

from orchestrator.judging import Met, judge, met
from orchestrator.simulation.result import FleetTimings, Outcome
from orchestrator.simulator import Floats, percentile
from placement.plan import Plan
from profiler.core import Noun, Slo

PERCENTILES = (50, 90, 99)


class StreamResult(Noun):
    """One stream's requests under one SLO; shares are of all that arrived."""

    stream: str
    slo: Slo
    requests: int
    ttft_attainment: float
    tpot_attainment: float
    attainment: float

    @property
    def holds(self) -> bool:
        """Whether enough of them met both targets."""
        return self.attainment >= self.slo.attainment


class GroupResult(Noun):
    """One replica group: what it was sent, how busy it was, what it cost."""

    group: str
    replicas: int
    requests: int
    attainment: float | None
    utilisation: float
    replica_hours: float
    usd: float


class Percentiles(Noun):
    """Seconds that this share of the requests does not exceed; None: those never ended.

    Every arrival counts: one that was turned away takes forever.
    """

    p50: float | None
    p90: float | None
    p99: float | None


class SimulationResult(Noun):
    """What a plan did with a trace, in simulation."""

    service: str
    plan: str
    simulated: bool = True
    seed: int | None
    requests: int
    duration_s: float
    attainment: float
    ttft_attainment: float
    tpot_attainment: float
    goodput_rps: float
    usd: float
    usd_per_1000_requests: float
    preemptions: int
    streams: tuple[StreamResult, ...]
    groups: tuple[GroupResult, ...]
    ttft_s: Percentiles
    tpot_s: Percentiles
    e2e_s: Percentiles
    outcomes: dict[str, int]

    @property
    def holds(self) -> bool:
        """Whether every stream kept its SLO."""
        return all(s.holds for s in self.streams)


def summarise(
    plan: Plan, timings: FleetTimings, seed: int | None = None, found: Met | None = None
) -> SimulationResult:
    """The figures of a simulation.

    Goodput is requests that met their SLO per second of arrivals. Cost is that of replica-seconds,
    starting and draining ones included, and of whole nodes where groups stand on such, over all
    requests that arrived.
    """
    found = found or met(plan, timings)
    groups = _groups(plan, timings, found)
    requests = len(timings.arrival_s)
    duration_s = float(timings.arrival_s[-1])
    nodes_usd = sum(n.total_usd_per_hour for n in plan.nodes) * timings.end_s / 3600
    usd = sum(g.usd for g in groups) + nodes_usd
    return SimulationResult(
        service=plan.service,
        plan=plan.digest,
        seed=seed,
        requests=requests,
        duration_s=duration_s,
        attainment=float(found.both.mean()),
        ttft_attainment=float(found.ttft.mean()),
        tpot_attainment=float(found.tpot.mean()),
        goodput_rps=float(found.both.sum()) / duration_s if duration_s else 0.0,
        usd=usd,
        usd_per_1000_requests=1000 * usd / requests,
        preemptions=int(timings.preemptions.sum()),
        streams=tuple(
            StreamResult(
                stream=k.stream,
                slo=k.slo,
                requests=k.requests,
                ttft_attainment=k.ttft,
                tpot_attainment=k.tpot,
                attainment=k.both,
            )
            for k in judge(plan, timings, found)
        ),
        groups=groups,
        ttft_s=_percentiles(timings.ttft_s),
        tpot_s=_percentiles(timings.tpot_s),
        e2e_s=_percentiles(timings.e2e_s),
        outcomes={
            o.name.lower(): timings.count(o) for o in Outcome if timings.count(o) or o == Outcome.OK
        },
    )


def _groups(plan: Plan, timings: FleetTimings, found: Met) -> tuple[GroupResult, ...]:
    results = []
    for k, name in enumerate(timings.groups):
        group, mine = plan.group(name), timings.group == k
        hours = timings.replica_seconds[name] / 3600
        results.append(
            GroupResult(
                group=name,
                replicas=group.replicas,
                requests=int(mine.sum()),
                attainment=float(found.both[mine].mean()) if mine.any() else None,
                utilisation=timings.utilisation[name],
                replica_hours=hours,
                usd=hours * group.usd_per_hour if group.node_gpus == 1 else 0.0,
            )
        )
    return tuple(results)


def _percentiles(values: Floats) -> Percentiles:
    known = {f"p{p}": percentile(np.asarray(values), p) for p in PERCENTILES}
    return Percentiles(**{k: v if math.isfinite(v) else None for k, v in known.items()})
