"""What a mix of GPU types saves against fleets of one type, on real traces."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.planner_cases import FOUR_GPUS, MIXES, ProfileOf, Stream, problem_of
from placement.ilp import solve
from placement.problem import Problem, exclude_unservable
from profiler.core import Slo

MODEL = "llama-3.1-8b"
BUCKETS = 100


@dataclass(frozen=True)
class Saving:
    """Cost of the mix, and of each type alone that can serve all that the mix serves."""

    profiles: str
    tpot_s: float
    mix: str
    rate_rps: float
    excluded_share: float
    usd_per_hour: float
    fleet: str
    alone: dict[str, float]

    @property
    def best(self) -> str:
        """The cheapest type alone."""
        return min(self.alone, key=lambda gpu: self.alone[gpu])

    @property
    def saving(self) -> float | None:
        """Share of the cheapest single-type fleet's cost that is saved; None without such."""
        return 1 - self.usd_per_hour / self.alone[self.best] if self.alone else None

    @property
    def saving_vs_dearest(self) -> float | None:
        """The same against the dearest single-type fleet."""
        return 1 - self.usd_per_hour / max(self.alone.values()) if self.alone else None


def savings(
    profiles: str, profile_of: ProfileOf, slos: Iterable[Slo], rates_rps: Sequence[float]
) -> list[Saving]:
    """One row for each SLO, mix of traces and rate."""
    return [
        _saving(profiles, profile_of, slo, mix, rate)
        for slo in slos
        for mix in MIXES
        for rate in rates_rps
    ]


def _saving(profiles: str, profile_of: ProfileOf, slo: Slo, mix: str, rate: float) -> Saving:
    stream = Stream(MODEL, mix, rate, BUCKETS)
    problem = problem_of([stream], FOUR_GPUS, slo=slo, profile_of=profile_of)
    best = solve(problem, lp_bound=False)
    bought = zip(problem.options, best.replicas.tolist(), strict=True)
    return Saving(
        profiles=profiles,
        tpot_s=slo.tpot_s,
        mix=mix,
        rate_rps=rate,
        excluded_share=sum(e.request_class.rate_rps for e in problem.excluded) / rate,
        usd_per_hour=best.usd_per_hour,
        fleet=" + ".join(f"{n} {o.gpu}" for o, n in bought if n),
        alone=_alone(problem),
    )


def _alone(problem: Problem) -> dict[str, float]:
    found = {}
    for gpu in problem.gpus:
        only = problem.only(gpu)
        if only.options and len(exclude_unservable(only).classes) == len(problem.classes):
            found[gpu] = solve(only, lp_bound=False).usd_per_hour
    return found
