"""Autoscalers beside each other, at equal attainment, in the simulator.

    python -m benchmarks.autoscale [--quick] [--case NAME ...] [--router NAME ...] [--rule NAME ...]
        [--cold-start S ...] [--results FILE] [--processes 2]

Llama-3.1-8B on L40S and H100 (catalog prices, profiles computed), TTFT 2 s and TPOT 60 ms for 95 %
of all arrivals, those turned away included. Each rule has one figure that makes it more eager. It
is set on draws of the load made for that, so that attainment there is at least 95.5 % for the
least money, then judged on other draws (`benchmarks.autoscale_cases`); rules that know nothing of
GPU types may use both or only the one that suits them best, whichever is cheaper on the tuning
draws. Cost is rent from asking for a replica until it is gone.

The ratios in the last line compare rules each behind the router with which it was cheapest on the
tuning draws; those ending in a router's name compare them behind that one.

Recovery is from the end of the burst to the first moment from which, for 60 s, at least 95 % of
the requests of every next 30 s meet the SLO. Flaps are changes of direction of one group's size
within ten minutes. Over-provisioning is cost over the clairvoyant's. Results are kept in a JSONL
file as they come, and what is there is not run again. The last line is JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.autoscale_cases import GPUS, GPUS_DAY, Draw, cases, fleet_plan
from benchmarks.autoscale_rules import ALL, ROUTERS, RULES, Rule, Setting
from orchestrator.judging import met
from orchestrator.simulation.events import Autoscaler, Observation
from orchestrator.simulation.result import FleetTimings, Outcome
from orchestrator.simulation.run import Conditions, simulate
from placement.plan import Plan

ASKED, TUNED_TO, SLACK = 0.95, 0.955, 0.01
REFINEMENTS = 7
FLAP_S = 600.0
QUICK = ("azure-chat", "spike-5x-120s", "gamma-cv4")
QUICK_RULES = ("ours", "knative", "wva", "clairvoyant")
COLD_STARTS_S = (60.0, 104.0, 360.0)
DEFAULT_COLD_S = 104.0
Bools = NDArray[np.bool_]
Result = Mapping[str, object]


@dataclass(frozen=True)
class Job:
    """One rule in one case, behind one router, at one cold start."""

    case: str
    router: str
    rule: str
    cold_s: float


@dataclass(frozen=True)
class Fared:
    """How a fleet fared: means over the draws; ``quality`` is the share answered at all."""

    usd_per_hour: float
    attainment: float
    quality: float
    usd_per_1k: float
    recovery_s: float | None
    flaps_per_hour: float


class Watched:
    """An autoscaler whose wishes are written down."""

    def __init__(self, rule: Autoscaler) -> None:
        self._rule = rule
        self._moves: dict[str, list[tuple[float, int]]] = defaultdict(list)

    def __call__(self, seen: Observation) -> Mapping[str, int]:
        """As the rule says."""
        wanted = self._rule(seen)
        for name, count in wanted.items():
            if count != seen.groups[name].staying:
                direction = 1 if count > seen.groups[name].staying else -1
                self._moves[name].append((seen.time_s, direction))
        return wanted

    @property
    def flaps(self) -> int:
        """Changes of direction within ten minutes."""
        return sum(
            a[1] != b[1] and b[0] - a[0] <= FLAP_S
            for moves in self._moves.values()
            for a, b in itertools.pairwise(moves)
        )


@lru_cache(maxsize=2)
def draws_of(case: str, judging: bool) -> tuple[Draw, ...]:
    """A case's draws; one process keeps the last."""
    return tuple(cases()[case].draws(judging))


@lru_cache(maxsize=2)
def plan_of(case: str) -> Plan:
    """Planned for what the case is tuned on."""
    gpus = GPUS_DAY if cases()[case].long else GPUS
    return fleet_plan(draws_of(case, False)[0].trace, gpus)


def run_once(rule: Rule, eagerness: float, setting: Setting, fleet: Mapping[str, int]) -> Fared:
    """One simulation."""
    groups = tuple(
        g.model_copy(update={"replicas": max(1, fleet[g.name])}) for g in setting.plan.groups
    )
    plan = setting.plan.model_copy(update={"groups": groups})
    scaler = Watched(rule.make(setting, eagerness))
    found = simulate(
        plan,
        setting.draw.trace,
        router=setting.router.make(plan),
        autoscaler=scaler,
        interval_s=rule.turn_s(setting),
        conditions=Conditions(cold_start_s=setting.cold_s),
    )
    good = met(plan, found).both
    hours = float(found.arrival_s[-1]) / 3600
    usd = sum(found.replica_seconds[g.name] * g.usd_per_hour / 3600 for g in plan.groups)
    end_s = setting.draw.spike_end_s
    return Fared(
        usd_per_hour=usd / hours,
        attainment=float(good.mean()),
        quality=float((found.outcome == Outcome.OK).mean()),
        usd_per_1k=usd / len(good) * 1000,
        recovery_s=None if end_s is None else recovery_s(found, good, end_s),
        flaps_per_hour=scaler.flaps / hours,
    )


def recovery_s(found: FleetTimings, good: Bools, end_s: float) -> float:
    """See the module; to the last arrival where it never recovers."""
    arrival_s = found.arrival_s
    kept = np.concatenate([[0], np.cumsum(good)])
    since = None
    for at_s in np.arange(end_s, float(arrival_s[-1]) - 30.0, 1.0):
        low, high = np.searchsorted(arrival_s, [at_s, at_s + 30.0])
        if kept[high] - kept[low] >= ASKED * (high - low):
            since = at_s if since is None else since
            if at_s - since >= 60.0:
                return float(since - end_s)
        else:
            since = None
    return float(arrival_s[-1]) - end_s


def fare(job: Job, eagerness: float, only: str, judging: bool) -> Fared:
    """A rule on all draws of one kind."""
    rule, plan = RULES[job.rule], plan_of(job.case)
    first = Setting(plan, draws_of(job.case, False)[0], ROUTERS[job.router], job.cold_s)
    fleet = first.fleet_for(1.0)
    found = [
        run_once(rule, eagerness, replace(first, draw=draw, only=only), fleet)
        for draw in draws_of(job.case, judging)
    ]
    recoveries = [f.recovery_s for f in found if f.recovery_s is not None]
    return Fared(
        usd_per_hour=float(np.mean([f.usd_per_hour for f in found])),
        attainment=float(np.mean([f.attainment for f in found])),
        quality=float(np.mean([f.quality for f in found])),
        usd_per_1k=float(np.mean([f.usd_per_1k for f in found])),
        recovery_s=max(recoveries) if recoveries else None,
        flaps_per_hour=float(np.mean([f.flaps_per_hour for f in found])),
    )


def tuned(job: Job) -> tuple[float, str, float]:
    """The eagerness and the GPU types that reach the target for the least money, and its cost.

    Bisection on the logarithm, taking attainment to rise with eagerness; the most eager where
    none reaches it. The cheapest of all that were tried and reach it is taken.
    """
    rule = RULES[job.rule]
    if rule.span is None:
        return 1.0, ALL, math.nan
    names = [g.name for g in plan_of(job.case).groups]
    alone = names if rule.one_type and not ROUTERS[job.router].keeps_shares else []
    best: tuple[float, float, str] | None = None
    fallback: tuple[float, float, str] | None = None
    for only in (ALL, *alone):
        low, high = (math.log(v) for v in rule.span)
        tries = [high]
        for _ in range(REFINEMENTS):
            at = tries.pop() if tries else (low + high) / 2
            found = fare(job, math.exp(at), only, judging=False)
            if found.attainment >= TUNED_TO:
                high = at
                if best is None or found.usd_per_hour < best[0]:
                    best = (found.usd_per_hour, math.exp(at), only)
            else:
                if at == high:
                    if fallback is None or found.attainment > fallback[0]:
                        fallback = (found.attainment, math.exp(at), only)
                    break
                low = at
    if best is not None:
        return best[1], best[2], best[0]
    assert fallback is not None
    return fallback[1], fallback[2], math.nan


def work(job: Job) -> dict[str, object]:
    """Tune, judge, and say so as plain data."""
    eagerness, only, tuning_usd = tuned(job)
    found = fare(job, eagerness, only, judging=True)
    told = None if math.isnan(tuning_usd) else tuning_usd
    return {**asdict(job), "eagerness": eagerness, "only": only, "tuning_usd": told} | asdict(found)


def kept(path: Path) -> list[Result]:
    """Results of a file; none where there is none yet."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def run_all(jobs: Sequence[Job], path: Path | None, processes: int) -> list[Result]:
    """Every job's result; those already in the file are not run again."""
    done = kept(path) if path else []
    known = {tuple(r[k] for k in ("case", "router", "rule", "cold_s")) for r in done}
    wanted = {(j.case, j.router, j.rule, j.cold_s) for j in jobs}
    results = [r for r in done if (r["case"], r["router"], r["rule"], r["cold_s"]) in wanted]
    left = [j for j in jobs if (j.case, j.router, j.rule, j.cold_s) not in known]
    with ProcessPoolExecutor(processes) as pool:
        for result in pool.map(work, left):
            results.append(result)
            show(result)
            if path:
                with path.open("a") as f:
                    f.write(json.dumps(result) + "\n")
    return results


def show(r: Result) -> None:
    """One result in a line."""
    recovery = "" if r["recovery_s"] is None else f"  recovers in {r['recovery_s']:.0f} s"
    only = "" if r["only"] == ALL else f"  ({r['only']})"
    print(
        f"{r['case']:18} {r['router']:9} {r['cold_s']:4.0f} s  {r['rule']:12}"
        f" ${r['usd_per_hour']:7.2f}/h  {r['attainment']:7.2%} met  {r['quality']:7.2%} answered"
        f"  {r['flaps_per_hour']:5.2f} flaps/h{recovery}{only}",
        flush=True,
    )


def ratios(results: Sequence[Result], router: str | None = None) -> dict[str, float | None]:
    """Costs of ours over others', geometric means over the cases in which both reach the target.

    Behind one router, or each rule behind the one with which it was cheapest on the tuning draws.
    """
    by: dict[tuple[object, object, object], Result] = {}
    for r in results:
        key = (r["case"], r["cold_s"], r["rule"])
        if router in (None, r["router"]) and (key not in by or tuned_cost(r) < tuned_cost(by[key])):
            by[key] = r

    def over(rule: str, only: str | None = None) -> float | None:
        logs = [
            math.log(number(r, "usd_per_hour") / number(by[case, cold, rule], "usd_per_hour"))
            for (case, cold, name), r in by.items()
            if name == "ours"
            and only in (None, case)
            and (case, cold, rule) in by
            and reached(r)
            and reached(by[case, cold, rule])
        ]
        return round(math.exp(sum(logs) / len(logs)), 3) if logs else None

    recoveries = [
        number(r, "recovery_s")
        for r in results
        if r["rule"] == "ours"
        and str(r["case"]).startswith("spike-5x")
        and ROUTERS[str(r["router"])].sheds
    ]
    return {
        "cost_vs_kpa": over("knative"),
        "cost_vs_wva": over("wva"),
        "cost_vs_clairvoyant_day": over("clairvoyant", "servegen-day"),
        "recovery_s_5x": max(recoveries) if recoveries else None,
        "cost_vs_clairvoyant_diurnal": over("clairvoyant", "azure2024-diurnal"),
        "cost_vs_dynamo_like": over("dynamo-like"),
        "cost_vs_ray_tuned": over("ray-tuned"),
        "cost_vs_fixed_tuned": over("fixed-tuned"),
    }


def number(r: Result, key: str) -> float:
    """A figure of a result."""
    return float(r[key])  # type: ignore[arg-type]


def tuned_cost(r: Result) -> float:
    """What a rule cost on the tuning draws; infinite where it had to miss the target there."""
    return math.inf if r["tuning_usd"] is None else number(r, "tuning_usd")


def reached(r: Result) -> bool:
    """Whether a judged run came near enough to the attainment asked for to be compared."""
    return number(r, "attainment") >= ASKED - SLACK


def table(results: Sequence[Result], router: str) -> None:
    """Costs over the clairvoyant's, a row a case."""
    mine = [r for r in results if r["router"] == router or r["rule"] == "clairvoyant"]
    rules = [n for n in RULES if any(r["rule"] == n for r in mine)]
    print(f"\n{router}: cost over the clairvoyant's (* attainment under 94 %)")
    print(f"{'case':18} cold  " + " ".join(f"{n:>12}" for n in rules))
    for case, cold in dict.fromkeys((r["case"], r["cold_s"]) for r in mine):
        row = {r["rule"]: r for r in mine if (r["case"], r["cold_s"]) == (case, cold)}
        least = row.get("clairvoyant")
        cells = []
        for name in rules:
            r = row.get(name)
            if r is None or least is None:
                cells.append(f"{'-':>12}")
                continue
            ratio = number(r, "usd_per_hour") / number(least, "usd_per_hour")
            cells.append(f"{ratio:11.2f}{' ' if reached(r) else '*'}")
        print(f"{case:18} {cold:4.0f}  " + " ".join(cells))


def main() -> None:
    """Run what was asked for and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="three cases, four rules")
    parser.add_argument("--case", action="append", choices=sorted(cases()))
    parser.add_argument("--router", action="append", choices=list(ROUTERS))
    parser.add_argument("--rule", action="append", choices=list(RULES))
    parser.add_argument("--cold-start", action="append", type=float)
    parser.add_argument("--results", type=Path, help="keep results here, and go on from them")
    parser.add_argument("--summary", action="store_true", help="only what is in --results")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    names = args.case or (QUICK if args.quick else list(cases()))
    routers = args.router or (["shedding"] if args.quick else list(ROUTERS))
    rules = args.rule or (QUICK_RULES if args.quick else list(RULES))
    colds = args.cold_start or ((DEFAULT_COLD_S,) if args.quick else COLD_STARTS_S)
    present = [n for n in names if n in cases()]
    jobs = [Job(c, r, n, s) for c in present for r in routers for s in colds for n in rules]
    known = kept(args.results) if args.results else []
    results = known if args.summary else run_all(jobs, args.results, args.processes)
    for router in routers:
        table(results, router)
    each = {f"{k}_{r}": v for r in routers for k, v in list(ratios(results, r).items())[:3]}
    print(json.dumps(ratios(results) | each | {"jobs": len(results)}))


if __name__ == "__main__":
    main()
