"""Load policies under bursts: attainment, availability and quality on one fixed fleet, simulated.

    python -m benchmarks.burst [--quick] [--seeds 5] [--case CASE] [--results FILE] [--summary]

Three cases (`benchmarks.burst_cases`): chat on a ladder of three Llama-3.1 models, chat and code
on a pair. Each is asked for 0.25 to 4 times what its large model can do inside the SLO (TTFT 3 s,
TPOT 0.1 s), and for spikes of 3, 5 and 10 times a base of 0.6 for a minute. Arrivals and sizes are
the later part of real traces, superposed (chat) or compressed (code); spikes are superposed. Which
prompt of ZeroEval belongs to which request is drawn at random. All policies pass the same
production dispatcher; parameters were tuned on the earlier part (`benchmarks.burst_tuning`).

With ``--results`` what is judged is kept, with the policies learned beside it, and a run goes on
where the last one ended; ``--summary`` shows what is there. Without the data there is nothing to
run. The last line is JSON: the four figures under their own names are the worst case's, and each
case's are there under its name.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from benchmarks.burst_cases import (
    CASES,
    Case,
    Job,
    Setting,
    prepare,
    run_job,
    setting_of,
    told_of,
    train,
)
from benchmarks.burst_fleet import OUTCOMES
from benchmarks.burst_load import BASE, TRACES, Scenario
from benchmarks.burst_results import Key, Row, keep, kept
from benchmarks.burst_table import ORDER, figures, show
from serve_apps.router.load_values import LoadValues, load_values

MULTIPLES = (0.25, 0.5, 1.0, 2.0, 4.0)
BEYOND = (8.0, 16.0, 24.0, 40.0)
"""Where only the availability of the large model and of ours is of interest."""
FAR = ("large-only", "ours")
REFERENCES = ("small-only", "random", "hindsight")
FEWER_SEEDS = 2
"""So many for references, and for loads beyond, where figures differ little from seed to seed."""
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


def keys_of(
    case: Case,
    seeds: int,
    policies: Sequence[str],
    learned: LoadValues | None,
    *,
    quick: bool,
) -> list[Key]:
    """What there is to judge of a case; beyond the usual loads `FAR` alone."""

    def wanted(far: bool, policy: str, seed: int) -> bool:
        fewer = far or policy in REFERENCES
        return (policy in FAR or not far) and (seed < FEWER_SEEDS or not fewer)

    return [
        (case.name, scenario, seed, policy, told_of(case, policy, learned))
        for scenario in scenarios(case, quick=quick)
        for seed in range(seeds)
        for policy in policies
        if wanted(scenario.multiple > max(MULTIPLES), policy, seed)
    ]


def jobs(case: Case, wanted: Sequence[Key], known: Mapping[Key, Row]) -> list[Job]:
    """What is wanted and not known, by scenario and seed; with random goes ours, for its mix."""
    left: dict[tuple[Scenario, int], list[str]] = {}
    for key in wanted:
        if key not in known:
            left.setdefault((key[1], key[2]), []).append(key[3])
    mixes = {(k[1], k[2]): known[k].measures.mix for k in wanted if k in known and k[3] == "ours"}
    made = []
    for (scenario, seed), policies in left.items():
        mix = mixes.get((scenario, seed))
        if "random" in policies and "ours" not in policies and mix is None:
            policies.append("ours")
        made.append(Job(case, scenario, seed, tuple(policies), mix))
    return made


def main() -> None:
    """Run and print."""
    args = _arguments()
    if not (TRACES.exists() and OUTCOMES.exists()):
        print(f"{TRACES.parent} is not here: the benchmark needs real traces and outcomes")
        sys.exit(1)
    names = args.case or [c.name for c in CASES][: 1 if args.quick else None]
    chosen = [c for c in CASES if c.name in names]
    seeds = args.seeds or (2 if args.quick else 5)
    setting = setting_of(chosen)
    prepare(setting)
    with _workers(args.workers, setting) as pool:
        learned = _learned(pool, chosen, args) if "RL" in args.policies else {}
        known = kept(args.results)
        wanted = {
            c.name: keys_of(c, seeds, args.policies, learned.get(c.name), quick=args.quick)
            for c in chosen
        }
        work = [] if args.summary else [j for c in chosen for j in jobs(c, wanted[c.name], known)]
        work.sort(key=lambda j: -j.scenario.multiple * j.scenario.span_s)
        for done in as_completed([pool.submit(run_job, job, learned) for job in work]):
            rows = done.result()
            known |= {row.key: row for row in rows}
            if args.results:
                keep(args.results, rows)
    rows = [known[key] for keys in wanted.values() for key in keys if key in known]
    show(rows, setting, learned)
    print(json.dumps(figures(rows)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="one case, fewer loads, two seeds")
    parser.add_argument("--seeds", type=int, default=None)
    parser.add_argument("--minutes", type=float, default=1.5, help="of learning, each case")
    parser.add_argument("--policy", action="append", default=[], metavar="CASE=FILE")
    names = [c.name for c in CASES]
    parser.add_argument("--case", action="append", choices=names, help="default: all")
    parser.add_argument("--policies", nargs="+", choices=ORDER, default=ORDER)
    parser.add_argument("--results", type=Path, help="keep results here, and go on from them")
    parser.add_argument("--summary", action="store_true", help="only what is in --results")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    if args.quick:
        args.minutes = min(args.minutes, 0.1)
    return args


def _workers(count: int, setting: Setting) -> ProcessPoolExecutor:
    context = get_context("fork")
    return ProcessPoolExecutor(count, context, initializer=prepare, initargs=(setting,))


def _learned(
    pool: ProcessPoolExecutor, cases: list[Case], args: argparse.Namespace
) -> dict[str, LoadValues]:
    """Those named on the command line or found beside the results; the others are learned now."""
    paths = {name: Path(file) for name, file in (p.split("=", 1) for p in args.policy)}
    if args.results:
        beside = {c.name: _beside(args.results, c) for c in cases if c.name not in paths}
        paths |= {name: path for name, path in beside.items() if path.exists()}
    waiting = {
        c: pool.submit(train, c, args.minutes)
        for c in cases
        if c.name not in paths and not args.summary
    }
    found = {name: load_values(path) for name, path in paths.items()}
    for case, future in waiting.items():
        found[case.name] = future.result()
        if args.results:
            found[case.name].save(_beside(args.results, case))
    return found


def _beside(results: Path, case: Case) -> Path:
    return results.with_name(f"{results.stem}-{case.name.replace(' ', '-')}.npz")


if __name__ == "__main__":
    main()
