"""Autoscalers beside each other, at equal attainment, in the simulator.

    python -m benchmarks.autoscale [--quick | --full] [--case NAME ...] [--router NAME ...]
        [--rule NAME ...] [--cold-start S ...] [--results FILE] [--summary] [--markdown]
        [--processes 2]

Llama-3.1-8B on L40S and H100 (catalog prices, profiles computed), TTFT 2 s and TPOT 60 ms for 95 %
of all arrivals, those turned away included. Each rule has one figure that makes it more eager. It
is set on draws of the load made for that, so that attainment there is at least 95.5 % for the
least money, then judged on other draws (`benchmarks.autoscale_cases`); rules that know nothing of
GPU types may use both or only the one that suits them best, whichever is cheaper on the tuning
draws. As no rule ends at just 95 % on draws it was not tuned on, its eagerness is then moved until
it does: ``usd_at_95`` is what rules are compared by. Cost is rent from asking for a replica until
it is gone. The first ten minutes of a run are not judged: all begin with a fleet for the mean load.

All cases, routers, rules and cold starts crossed (``--full``) take most of a day, so without
options a part is run (`crossed`), the most telling first: the five main rules in every case behind
the router that sheds, at a cold start of 104 s; other routers, cold starts and rules in the cases
of ``--quick``, and what the days are without a history. Other cold starts and routers begin where
tuning at 104 s ended, with the same GPU types. Behind ``flow``, production's dispatcher, nothing is
tuned anew and one draw is judged: a simulated hour takes twenty seconds there.

The ratios in the last line compare rules each behind the router with which it was cheapest on the
tuning draws; those ending in a router's name compare them behind that one.

Recovery is from the end of the burst to the first moment from which, for 60 s, at least 95 % of
the requests of every next 30 s meet the SLO. Flaps are changes of direction of one group's size
within ten minutes. Over-provisioning is cost over the clairvoyant's. Results are kept in a JSONL
file as they come, and what is there is not run again. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

from benchmarks.autoscale_cases import cases
from benchmarks.autoscale_report import Result, markdown, number, ratios, show, table
from benchmarks.autoscale_rules import ALL, ROUTERS, RULES
from benchmarks.autoscale_run import ASKED, Fared, Job, alone, fare
from benchmarks.autoscale_search import Search

TUNED_TO, TUNING_SLACK, JUDGING_SLACK = 0.955, 0.004, 0.006
TUNED_AT_MOST, JUDGED_AT_MOST, SLOWLY_AT_MOST = 10, 12, 3
COLD_STEPS, WARM_STEPS, NEAR_STEPS = 10, 20, 40
QUICK = ("azure-chat", "spike-5x-120s", "gamma-cv4")
QUICK_RULES = ("clairvoyant", "ours", "knative", "wva")
COLD_STARTS_S = (60.0, 104.0, 360.0)
COLD_S = 104.0
TELLING = (
    "azure-chat",
    "gamma-cv4",
    "spike-5x-120s",
    "azure2024-diurnal",
    "azure-code",
    "servegen-day",
)
MAIN = ("clairvoyant", "ours", "knative", "wva", "dynamo-like")
NO_HISTORY = "ours-no-history"


@dataclass(frozen=True)
class Hint:
    """Where to begin: an eagerness, and the GPU types if they are settled."""

    eagerness: float
    only: str | None


def crossed(names: Sequence[str]) -> Iterator[Job]:
    """The part of the cross that is run without options, the most telling first."""
    telling = [n for n in TELLING if n in names]
    others = [n for n in names if n not in TELLING]
    short = [n for n in telling if n in QUICK]
    days = [n for n in telling if n not in (*QUICK, "azure-code")]
    bursts = [n for n in short if n != "gamma-cv4"]
    reactive = (*MAIN, "wva-tokens", "knative-10min")
    for rules, where, router, colds in (
        (MAIN, telling, "shedding", (COLD_S,)),
        (MAIN, others, "shedding", (COLD_S,)),
        (reactive, [n for n in telling if n not in days], "balanced", (COLD_S,)),
        (MAIN, short, "shedding", (60.0, 360.0)),
        (tuple(RULES), short, "shedding", (COLD_S,)),
        ((NO_HISTORY,), days, "shedding", (COLD_S,)),
        (("ours", "knative", "wva", "dynamo-like"), short, "plan", (COLD_S,)),
        (MAIN, bursts, "flow", (COLD_S,)),
    ):
        for case, cold_s, rule in product(where, colds, rules):
            yield Job(case, router, rule, cold_s)


def tuned(job: Job, hint: Hint | None) -> tuple[Search, str]:
    """The search that found the cheapest way to the target, and its GPU types.

    Else the one that came nearest.
    """
    rule = RULES[job.rule]
    assert rule.span is not None
    guess = hint.eagerness if hint else rule.guess
    settled = hint.only if hint else None
    best: tuple[Search, str] | None = None
    for only in [settled] if settled else [ALL, *alone(job)]:

        def evaluate(eagerness: float, only: str = only) -> Fared:
            return fare(job, eagerness, only, judging=False)

        found = Search(
            evaluate,
            rule.span,
            TUNED_TO,
            TUNING_SLACK,
            most=TUNED_AT_MOST,
            steps=WARM_STEPS if hint else COLD_STEPS,
            ceiling_usd=best[0].nearest[1].usd_per_hour if best and best[0].best else float("inf"),
        ).run(guess)
        if best is None or _better(found, best[0]):
            best = found, only
    assert best is not None
    return best


def _better(one: Search, other: Search) -> bool:
    if one.best and other.best:
        return one.best[1].usd_per_hour < other.best[1].usd_per_hour
    if one.best or other.best:
        return one.best is not None
    return one.nearest[1].attainment > other.nearest[1].attainment


def work(job: Job, hint: Hint | None) -> dict[str, object]:
    """Tune, judge, and say so as plain data."""
    began_s, rule = time.process_time(), RULES[job.rule]
    slow = ROUTERS[job.router].make is None
    eagerness, only, tuning_usd, runs = 1.0, ALL, None, 0
    if rule.span is not None and slow and hint and hint.only:
        eagerness, only = hint.eagerness, hint.only
    elif rule.span is not None:
        search, only = tuned(job, hint)
        eagerness, runs = search.nearest[0], len(search.tried)
        tuning_usd = search.best[1].usd_per_hour if search.best else None

    judged = Search(
        lambda e: fare(job, e, only, judging=True),
        rule.span or (1.0, 1.0),
        ASKED,
        JUDGING_SLACK,
        steps=NEAR_STEPS,
        most=1 if rule.span is None else SLOWLY_AT_MOST if slow else JUDGED_AT_MOST,
    ).run(eagerness)
    return {
        **asdict(job),
        "eagerness": eagerness,
        "only": only,
        "tuning_usd": tuning_usd,
        **asdict(judged.tried[0][1]),
        "usd_at_95": judged.usd_at_target if rule.span else None,
        "frontier": [[round(e, 4), f.usd_per_hour, f.attainment] for e, f in judged.tried],
        "runs": runs + len(judged.tried),
        "cpu_s": time.process_time() - began_s,
    }


def hint_for(job: Job, results: Iterable[Result]) -> Hint | None:
    """What is known of the same rule in the same case elsewhere."""
    same = [r for r in results if r["case"] == job.case and r["rule"] == job.rule]
    keeps = ROUTERS[job.router].keeps_shares
    for r in sorted(same, key=lambda r: (r["router"] != "shedding", r["cold_s"] != COLD_S)):
        return Hint(number(r, "eagerness"), ALL if keeps else str(r["only"]))
    return None


def key_of(r: Result | Job) -> tuple[object, ...]:
    """What tells a job from others."""
    plain = asdict(r) if isinstance(r, Job) else r
    return tuple(plain[k] for k in ("case", "router", "rule", "cold_s"))


def kept(path: Path | None) -> list[Result]:
    """Results of a file; none where there is none yet."""
    if path is None or not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def run_all(jobs: Sequence[Job], path: Path | None, processes: int) -> list[Result]:
    """Every job's result, as many at a time; those already in the file are not run again."""
    known = kept(path)
    done = {key_of(r) for r in known}
    left = list(dict.fromkeys(j for j in jobs if key_of(j) not in done))
    running: set[Future[dict[str, object]]] = set()
    with ProcessPoolExecutor(processes) as pool:
        while left or running:
            while left and len(running) < processes:
                job = left.pop(0)
                running.add(pool.submit(work, job, hint_for(job, known)))
            ended, running = wait(running, return_when=FIRST_COMPLETED)
            for future in ended:
                result = future.result()
                known.append(result)
                show(result)
                if path:
                    with path.open("a") as f:
                        f.write(json.dumps(result) + "\n")
    wanted = {key_of(j) for j in jobs}
    return [r for r in known if key_of(r) in wanted]


def chosen(args: argparse.Namespace) -> list[Job]:
    """The jobs that were asked for."""
    present = cases()
    if args.quick:
        jobs = [Job(c, "shedding", r, COLD_S) for c, r in product(QUICK, QUICK_RULES)]
    elif args.full:
        jobs = [Job(c, w, r, s) for s, w, c, r in product(COLD_STARTS_S, ROUTERS, present, RULES)]
    else:
        jobs = list(crossed(list(present)))
    return [
        j
        for j in jobs
        if j.case in (args.case or present)
        and j.router in (args.router or ROUTERS)
        and j.rule in (args.rule or RULES)
        and j.cold_s in (args.cold_start or COLD_STARTS_S)
        and (j.rule != NO_HISTORY or present[j.case].long)
    ]


def main() -> None:
    """Run what was asked for and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="three cases, four rules")
    parser.add_argument("--full", action="store_true", help="everything crossed with everything")
    parser.add_argument("--case", action="append", choices=sorted(cases()))
    parser.add_argument("--router", action="append", choices=list(ROUTERS))
    parser.add_argument("--rule", action="append", choices=list(RULES))
    parser.add_argument("--cold-start", action="append", type=float, choices=COLD_STARTS_S)
    parser.add_argument("--results", type=Path, help="keep results here, and go on from them")
    parser.add_argument("--summary", action="store_true", help="only what is in --results")
    parser.add_argument("--markdown", action="store_true", help="tables for documents")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    jobs = chosen(args)
    results = kept(args.results) if args.summary else run_all(jobs, args.results, args.processes)
    for router, cold_s in product(ROUTERS, COLD_STARTS_S):
        (markdown if args.markdown else table)(results, router, cold_s)
    present = [n for n in ROUTERS if any(r["router"] == n for r in results)]
    each = {f"{k}_{n}": v for n in present for k, v in list(ratios(results, n).items())[:4]}
    print(json.dumps(ratios(results) | each | {"jobs": len(results)}))


if __name__ == "__main__":
    main()
