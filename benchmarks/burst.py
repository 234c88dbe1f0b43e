"""Load policies under bursts: attainment, availability and quality on one fixed fleet, simulated.

    python -m benchmarks.burst [--quick] [--seeds 5] [--case CASE] [--policy CASE=FILE]

Three cases (`benchmarks.burst_cases`): chat on a ladder of three Llama-3.1 models, chat and code
on a pair. Each is asked for 0.25 to 4 times what its large model can do inside the SLO (TTFT 3 s,
TPOT 0.1 s), and for spikes of 3, 5 and 10 times a base of 0.6 for a minute. Arrivals and sizes are
the later part of real traces, superposed (chat) or compressed (code); spikes are superposed. Which
prompt of ZeroEval belongs to which request is drawn at random. All policies pass the same
production dispatcher; parameters were tuned on the earlier part (`benchmarks.burst_tuning`).
Without the data there is nothing to run. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from benchmarks.burst_cases import CASES, Case, Job, prepare, run_job, setting_of, train
from benchmarks.burst_fleet import OUTCOMES
from benchmarks.burst_load import BASE, TRACES, Scenario
from benchmarks.burst_table import figures, show
from serve_apps.router.load_values import LoadValues, load_values

MULTIPLES = (0.25, 0.5, 1.0, 2.0, 4.0)
BEYOND = (8.0, 12.0, 16.0, 24.0, 32.0, 40.0)
"""Where only the availability of the large model and of ours is of interest."""
SPIKES = (3.0, 5.0, 10.0)
QUICK_SPAN_S, BEYOND_SPAN_S = 120.0, 60.0
TUNING_SEEDS = 100
"""Test seeds lie below; tuning uses those from here on, and another part of the traces."""


def scenarios(case: Case, *, quick: bool) -> list[Scenario]:
    """What is asked of a case's fleet."""
    span_s = QUICK_SPAN_S if quick else case.span_s
    multiples = (1.0, 2.0) if quick else MULTIPLES
    spikes = (5.0,) if quick else SPIKES
    found = [Scenario(case.source, m, span_s=span_s) for m in multiples]
    found += [Scenario(case.source, BASE, s) for s in spikes]
    beyond = BEYOND[::3] if quick else BEYOND
    found += [Scenario(case.source, m, span_s=BEYOND_SPAN_S) for m in beyond if m <= case.most]
    return found


def jobs(cases: list[Case], seeds: int, *, quick: bool) -> list[Job]:
    """Every scenario of every case by every seed, the longest first."""
    made = [
        Job(case, scenario, seed, only_availability=scenario.multiple > max(MULTIPLES))
        for case in cases
        for scenario in scenarios(case, quick=quick)
        for seed in range(seeds)
    ]
    return sorted(made, key=lambda j: -j.scenario.multiple * j.scenario.span_s)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="one case, fewer loads, two seeds")
    parser.add_argument("--seeds", type=int, default=None)
    parser.add_argument("--minutes", type=float, default=1.5, help="of learning, each case")
    parser.add_argument("--policy", action="append", default=[], metavar="CASE=FILE")
    names = [c.name for c in CASES]
    parser.add_argument("--case", action="append", choices=names, help="default: all")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    if not (TRACES.exists() and OUTCOMES.exists()):
        print(f"{TRACES.parent} is not here: the benchmark needs real traces and outcomes")
        sys.exit(1)
    wanted = args.case or names[: 1 if args.quick else None]
    chosen = [c for c in CASES if c.name in wanted]
    seeds = args.seeds or (2 if args.quick else 5)
    told = dict(p.split("=", 1) for p in args.policy)
    setting = setting_of(chosen)
    with ProcessPoolExecutor(
        args.workers, get_context("fork"), initializer=prepare, initargs=(setting,)
    ) as pool:
        policies = _policies(pool, chosen, told, 0.1 if args.quick else args.minutes)
        run_all = partial(run_job, policies=policies)
        work = jobs(chosen, seeds, quick=args.quick)
        rows = [row for found in pool.map(run_all, work) for row in found]
    show(rows, setting, policies)
    print(json.dumps(figures(rows)))


def _policies(
    pool: ProcessPoolExecutor,
    cases: list[Case],
    told: dict[str, str],
    minutes: float,
) -> dict[str, LoadValues]:
    """Those named on the command line, the others learned now."""
    waiting = {c.name: pool.submit(train, c, minutes) for c in cases if c.name not in told}
    found = {name: load_values(Path(path)) for name, path in told.items()}
    return found | {name: future.result() for name, future in waiting.items()}


if __name__ == "__main__":
    main()
