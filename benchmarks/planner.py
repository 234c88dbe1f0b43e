"""How fast the planner is, beside the slice formulation, and what mixing GPU types saves.

    python -m benchmarks.planner [--quick | --full]

Problems come from the traces in ../shared/data/traces, the built-in catalog and computed profiles.
Each of ours is timed whole: modelling, solving, the LP bound, the check of the answer; the least of
three runs counts, since other work on the machine only adds. Seconds are wall-clock, CPU seconds
stand beside them. A slice run that its time limit cut has no time of its own: its speed-up is "at
least". The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks.planner_cases import (
    EIGHT_GPUS,
    FIVE_MODELS,
    FOUR_GPUS,
    MIXES,
    TRACES,
    TWENTY_MODELS,
    Stream,
    problem_of,
)
from benchmarks.savings import print_best, saving_table
from benchmarks.slices import SliceRun, solve_slices
from placement.ilp import solve
from placement.limits import Limits
from placement.problem import Problem, Stock
from placement.reduce import kept_options
from placement.solution import Solution
from placement.solver import run_highs

MODEL = "llama-3.1-8b"
SIZES = (36, 100, 400)
SLICE_FACTORS = (4, 8)
REPEATS = 3
SHARED_GAP = 0.01
A100_TYPES = ("L4", "A10G", "L40S", "A100-80GB")
"""Types among which the A100 is wanted, so that a limit on it binds."""


@dataclass(frozen=True)
class Scope:
    """How much of the benchmark runs."""

    mixes: tuple[str, ...]
    rates_rps: tuple[float, ...]
    slice_limit_s: float
    saving_rates_rps: tuple[float, ...]
    whole_limit_s: float


SCOPES = {
    "quick": Scope(("chat",), (32.0,), 5.0, (8.0,), 5.0),
    "default": Scope(("chat", "all"), (2.0, 32.0, 128.0), 20.0, (2.0, 8.0, 32.0, 128.0), 20.0),
    "full": Scope(
        tuple(MIXES),
        (2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0),
        120.0,
        (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0),
        120.0,
    ),
}


@dataclass(frozen=True)
class Timed:
    """An answer of the planner and the time it took, the least of some runs."""

    solution: Solution
    wall_s: float
    cpu_s: float

    @property
    def gap(self) -> float:
        """(cost - proven bound) / cost."""
        cost = self.solution.usd_per_hour
        return (cost - self.solution.lower_bound_usd_per_hour) / cost


@dataclass(frozen=True)
class Match:
    """One problem solved by the planner and by slices."""

    buckets: int
    ours: Timed
    theirs: SliceRun

    @property
    def speedup(self) -> float:
        """At least this, where the slice run was cut."""
        return self.theirs.wall_s / self.ours.wall_s

    @property
    def cost_ratio(self) -> float | None:
        """Ours over theirs; None where slices found no answer."""
        theirs = self.theirs.usd_per_hour
        return None if theirs is None else self.ours.solution.usd_per_hour / theirs


def main() -> None:
    scope = SCOPES[_options()]
    if not TRACES.is_dir():
        raise SystemExit(f"needs the public traces in {TRACES}")
    matches = against_slices(scope)
    largest = [m for m in matches if m.buckets == max(SIZES)]
    twelve = twelve_configs(scope)
    spare = twelve_configs(scope, Limits(node_loss_headroom=1.0), repeats=1)
    five = shared("five models, one A100 limit", five_models(), scope)
    twenty = shared("twenty models, 8 GPU types", twenty_models(), scope, repeats=1)
    rows = saving_table(scope.saving_rates_rps)
    known = [r for r in rows if r.saving is not None]
    best = max(known, key=lambda r: r.saving or 0.0)
    dearest = max(known, key=lambda r: r.saving_vs_dearest or 0.0)
    print_best(best, dearest)
    figures = {
        "median_s_400": statistics.median(m.ours.wall_s for m in largest),
        "median_cpu_s_400": statistics.median(m.ours.cpu_s for m in largest),
        "speedup_vs_slices_400": statistics.median(m.speedup for m in largest),
        "slice_runs_cut_400": sum(not m.theirs.proven for m in largest) / len(largest),
        "max_cost_ratio_vs_slices": max(m.cost_ratio for m in matches if m.cost_ratio is not None),
        "max_gap_vs_slices": max(m.ours.gap for m in matches),
        "s_12_configs_400": max(t.wall_s for t in twelve),
        "cpu_s_12_configs_400": max(t.cpu_s for t in twelve),
        "s_12_configs_400_node_loss": max(t.wall_s for t in spare),
        "cpu_s_12_configs_400_node_loss": max(t.cpu_s for t in spare),
        "s_5_models_shared": five.wall_s,
        "cpu_s_5_models_shared": five.cpu_s,
        "gap_5_models_shared": five.gap,
        "s_20_models": twenty.wall_s,
        "cpu_s_20_models": twenty.cpu_s,
        "gap_20_models": twenty.gap,
        "max_saving_vs_single_type": best.saving or 0.0,
        "max_saving_vs_dearest_single_type": dearest.saving_vs_dearest or 0.0,
        "median_saving_vs_single_type": statistics.median(r.saving or 0.0 for r in known),
    }
    print(json.dumps({name: float(f"{value:.6g}") for name, value in figures.items()}))


def _options() -> str:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--quick", action="store_true", help="a subset, in about a minute")
    which.add_argument("--full", action="store_true", help="all mixes and rates, slices for 120 s")
    asked = parser.parse_args()
    return "quick" if asked.quick else "full" if asked.full else "default"


def timed(problem: Problem, *, gap: float = 1e-4, repeats: int = REPEATS) -> Timed:
    """The planner's answer, timed."""
    runs = []
    for _ in range(repeats):
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        solution = solve(problem, gap=gap, time_limit_s=60.0)
        runs.append(Timed(solution, time.perf_counter() - wall_s, time.process_time() - cpu_s))
    return min(runs, key=lambda run: run.wall_s)


def against_slices(scope: Scope) -> list[Match]:
    """Four GPU types, one model: every size, mix, rate and slice factor."""
    print(f"4 GPU types, {MODEL}; slices in CBC, cut at {scope.slice_limit_s:g} s")
    print(
        "buckets with  mix    rate | ours: $/h      gap    s   CPU s | slices  $/h       s  faster"
    )
    matches = []
    for buckets in SIZES:
        for mix in scope.mixes:
            for rate in scope.rates_rps:
                problem = problem_of([Stream(MODEL, mix, rate, buckets)], FOUR_GPUS)
                ours = timed(problem)
                for factor in SLICE_FACTORS:
                    theirs = solve_slices(problem, factor, scope.slice_limit_s)
                    matches.append(Match(buckets, ours, theirs))
                    _print_match(matches[-1], problem, mix, rate, factor)
    return matches


def _print_match(match: Match, problem: Problem, mix: str, rate: float, factor: int) -> None:
    ours, theirs = match.ours, match.theirs
    cost = "none" if theirs.usd_per_hour is None else f"{theirs.usd_per_hour:.3f}"
    least = "" if theirs.proven else "at least "
    print(
        f"{match.buckets:7} {len(problem.classes):4}  {mix:5} {rate:5g} | "
        f"{ours.solution.usd_per_hour:10.3f} {ours.gap:8.1e} {ours.wall_s:6.3f} "
        f"{ours.cpu_s:6.3f} | "
        f"x{factor} {cost:>9} {theirs.wall_s:7.2f}  {least}{match.speedup:.0f}x",
        flush=True,
    )


def twelve_configs(
    scope: Scope,
    limits: Limits = Limits(),  # noqa: B008
    repeats: int = REPEATS,
) -> list[Timed]:
    """Four GPU types at three tensor-parallel sizes, 400 buckets."""
    spare = "" if limits.node_loss_headroom is None else ", the loss of any one node survived"
    print(f"\n12 replica configs, 400 buckets{spare}")
    found = []
    for mix in scope.mixes:
        for rate in scope.rates_rps:
            problem = problem_of([Stream(MODEL, mix, rate, 400)], FOUR_GPUS, (1, 2, 4))
            found.append(timed(replace(problem, limits=limits), repeats=repeats))
            print(f"{mix:5} {rate:5g} requests/s: {_line(found[-1])}", flush=True)
    return found


def five_models() -> Problem:
    """Five models of 100 buckets each; half of the A100s that they would take."""
    mixes, rates = ("chat", "code", "long", "chat+code", "all"), (40.0, 30.0, 5.0, 20.0, 10.0)
    streams = [Stream(*s, 100) for s in zip(FIVE_MODELS, mixes, rates, strict=True)]
    return _with_half(streams, A100_TYPES, ("A100-80GB",))


def twenty_models() -> Problem:
    """Twenty models of 100 buckets each on eight types; half of each type that they would take."""
    streams = []
    for i, (model, mix) in enumerate(zip(TWENTY_MODELS, 4 * tuple(MIXES), strict=False)):
        rate = (2.0, 5.0, 10.0, 20.0, 40.0)[i % 5] * (0.25 if "long" in mix else 1.0)
        streams.append(Stream(model, mix, rate, 100))
    return _with_half(streams, EIGHT_GPUS, EIGHT_GPUS)


def _with_half(streams: Sequence[Stream], gpus: Sequence[str], limited: Sequence[str]) -> Problem:
    sizes = (1, 2, 4)
    free = problem_of(streams, gpus, sizes)
    fleet = solve(free, gap=SHARED_GAP, lp_bound=False).replicas.tolist()
    taken = dict.fromkeys(limited, 0)
    for option, n in zip(free.options, fleet, strict=True):
        if option.gpu in taken:
            taken[option.gpu] += n * option.gpus
    stocks = [Stock(gpu, "on_demand", n // 2) for gpu, n in taken.items() if n >= 4]
    return problem_of(streams, gpus, sizes, stocks=stocks)


def shared(title: str, problem: Problem, scope: Scope, repeats: int = REPEATS) -> Timed:
    """A problem with shared stock, decomposed; beside it the whole MIP in HiGHS."""
    stock = ", ".join(f"{s.available} {s.gpu}" for s in problem.stocks)
    print(
        f"\n{title}: {len(problem.classes)} classes, {len(problem.options)} options "
        f"({len(kept_options(problem))} of use), at most {stock}"
    )
    found = timed(problem, gap=SHARED_GAP, repeats=repeats)
    print(f"decomposed, gap {SHARED_GAP:g} asked: {_line(found)}", flush=True)
    whole_s = time.perf_counter()
    whole = solve(problem, gap=SHARED_GAP, time_limit_s=scope.whole_limit_s, run=run_highs)
    whole_s = time.perf_counter() - whole_s
    gap = 1 - whole.lower_bound_usd_per_hour / whole.usd_per_hour
    print(
        f"the whole MIP: {whole.usd_per_hour:.3f} $/h, gap {gap:.2e}, {whole_s:.2f} s", flush=True
    )
    return found


def _line(found: Timed) -> str:
    cost = found.solution.usd_per_hour
    return f"{cost:.3f} $/h, gap {found.gap:.2e}, {found.wall_s:.3f} s ({found.cpu_s:.3f} CPU)"


if __name__ == "__main__":
    main()
