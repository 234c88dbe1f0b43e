"""What a mix of GPU types saves against fleets of one type, on real traces."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.planner_cases import FOUR_GPUS, LOOSE, MIXES, TIGHT, ProfileOf, Stream, problem_of
from placement.ilp import solve
from placement.problem import Problem, exclude_unservable
from profiler.core import Slo
from profiler.roofline import roofline_profile

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


def profile_sources() -> dict[str, ProfileOf]:
    """The roofline, and the silicon database where it is installed."""
    sources: dict[str, ProfileOf] = {"roofline": roofline_profile}
    try:
        from profiler.silicon import package_version, silicon_or_roofline

        package_version()
    except Exception as error:  # noqa: BLE001
        print(f"silicon profiles are left out: {error}")
        return sources
    return {"silicon": silicon_or_roofline, **sources}


def saving_table(rates_rps: Sequence[float]) -> list[Saving]:
    """Every profile source, SLO, mix of traces and rate."""
    print(f"\nsavings of the mix, {MODEL}, types {', '.join(FOUR_GPUS)}, on demand")
    print("profiles  TPOT    mix        rate  unservable |    $/h  best alone      saving  dearest")
    rows: list[Saving] = []
    for name, profile_of in profile_sources().items():
        for row in savings(name, profile_of, (LOOSE, TIGHT), rates_rps):
            rows.append(row)
            _print_saving(row)
    return rows


def _print_saving(row: Saving) -> None:
    text = (
        f"{row.profiles:8} {row.tpot_s * 1e3:3.0f} ms  {row.mix:9} {row.rate_rps:5g}  "
        f"{row.excluded_share:9.2%} | {row.usd_per_hour:7.2f}  "
    )
    if row.saving is None or row.saving_vs_dearest is None:
        print(f"{text}no type alone serves all   {row.fleet}", flush=True)
        return
    alone = f"{row.alone[row.best]:.2f} {row.best}"
    print(
        f"{text}{alone:16} {row.saving:5.1%}  {row.saving_vs_dearest:5.1%}  {row.fleet}", flush=True
    )


def print_best(best: Saving, dearest: Saving) -> None:
    """How near the published headlines are."""
    saved, other = best.saving or 0.0, dearest.saving_vs_dearest or 0.0
    print(
        f"\nmost saved against the best single type: {saved:.1%} ({best.mix}, {best.rate_rps:g} "
        f"requests/s, TPOT {best.tpot_s * 1e3:.0f} ms, {best.profiles}), or "
        f"{1 / (1 - saved):.2f}x the throughput per dollar\n"
        f"against the dearest that serves all: {other:.1%} ({dearest.mix}, {dearest.rate_rps:g} "
        f"requests/s, TPOT {dearest.tpot_s * 1e3:.0f} ms, {dearest.profiles})\n"
        "published: up to 77 % (Melange, against single types), 2.27x (heterogeneous MILP)"
    )
