"""What `benchmarks.autoscale` makes of its results: tables, and the ratios of the last line."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from benchmarks.autoscale_rules import ALL, ROUTERS, RULES

Result = Mapping[str, object]
Key = tuple[object, object, object]
SLACK = 0.01
ASKED = 0.95
USD, EQUAL = "usd_per_hour", "usd_at_95"
BOUND = "clairvoyant"


def show(r: Result) -> None:
    """One result in a line."""
    equal = "-" if r["usd_at_95"] is None else f"${r['usd_at_95']:.2f}"
    recovery = "" if r["recovery_s"] is None else f"  recovers in {r['recovery_s']:.0f} s"
    only = "" if r["only"] == ALL else f"  ({r['only']})"
    print(
        f"{r['case']:18} {r['router']:9} {r['cold_s']:4.0f} s  {r['rule']:15}"
        f" ${r['usd_per_hour']:7.2f}/h  {r['attainment']:7.2%} met  {r['quality']:7.2%} answered"
        f"  at 95 %: {equal:>8}  {r['flaps_per_hour']:5.1f} flaps/h{recovery}{only}"
        f"  [{r['runs']} runs, {r['cpu_s']:.0f} s]",
        flush=True,
    )


def ratios(results: Sequence[Result], router: str | None = None) -> dict[str, float | None]:
    """Costs of ours over others' at an attainment of 95 %, geometric means over cases.

    Over the cases and cold starts in which both reach it. Behind one router, or each rule behind
    the one with which it was cheapest on the tuning draws.
    """
    by: dict[Key, Result] = {}
    for r in results:
        key = (r["case"], r["cold_s"], r["rule"])
        if router in (None, r["router"]) and (key not in by or tuned_cost(r) < tuned_cost(by[key])):
            by[key] = r

    def over(rule: str, figure: str = EQUAL, case: str | None = None) -> float | None:
        logs = []
        for (name, cold, mine), r in by.items():
            other = by.get((name, cold, rule))
            if mine == "ours" and other is not None and case in (None, name):
                pair = (r[figure], other[figure])
                if None not in pair and _comparable(r, other, figure):
                    logs.append(math.log(number(r, figure) / number(other, figure)))
        return round(math.exp(sum(logs) / len(logs)), 3) if logs else None

    recoveries = [
        number(r, "recovery_s")
        for r in results
        if r["rule"] == "ours"
        and str(r["case"]).startswith("spike-5x")
        and ROUTERS[str(r["router"])].sheds
        and router in (None, r["router"])
    ]
    return {
        "cost_vs_kpa": over("knative"),
        "cost_vs_wva": over("wva"),
        "cost_vs_clairvoyant_day": over("clairvoyant", case="servegen-day"),
        "recovery_s_5x": max(recoveries) if recoveries else None,
        "cost_vs_clairvoyant_diurnal": over("clairvoyant", case="azure2024-diurnal"),
        "cost_vs_clairvoyant": over("clairvoyant"),
        "cost_vs_kpa_10min": over("knative-10min"),
        "cost_vs_wva_tokens": over("wva-tokens"),
        "cost_vs_dynamo_like": over("dynamo-like"),
        "cost_vs_ray_tuned": over("ray-tuned"),
        "cost_vs_fixed_tuned": over("fixed-tuned"),
        "cost_vs_kpa_as_tuned": over("knative", USD),
        "cost_vs_wva_as_tuned": over("wva", USD),
    }


def number(r: Result, key: str) -> float:
    """A figure of a result."""
    return float(r[key])  # type: ignore[arg-type]


def tuned_cost(r: Result) -> float:
    """What a rule cost on the tuning draws; infinite where it had to miss the target there."""
    return math.inf if r["tuning_usd"] is None else number(r, "tuning_usd")


def _comparable(one: Result, other: Result, figure: str) -> bool:
    return figure == EQUAL or (reached(one) and reached(other))


def reached(r: Result) -> bool:
    """Whether a run as tuned came near enough to the attainment asked for to be compared."""
    return number(r, "attainment") >= ASKED - SLACK


def table(results: Sequence[Result], router: str, cold_s: float) -> None:
    """Costs at 95 % over the clairvoyant's, a row a case.

    Where 95 % was not reached: cost and attainment of the most eager.
    """
    mine = [r for r in results if r["router"] == router and r["cold_s"] == cold_s]
    rules = [n for n in RULES if any(r["rule"] == n for r in mine)]
    if not mine:
        return
    print(f"\n{router}, cold start {cold_s:.0f} s: cost over the clairvoyant's (missed: its share)")
    print(f"{'case':18}" + " ".join(f"{n:>15}" for n in rules))
    for case in dict.fromkeys(r["case"] for r in mine):
        row = {r["rule"]: r for r in mine if r["case"] == case}
        least = row.get("clairvoyant")
        print(f"{case:18}" + " ".join(f"{_cell(row.get(n), least):>15}" for n in rules))


def _cell(r: Result | None, least: Result | None) -> str:
    if r is None:
        return "-"
    base = 1.0 if least is None else number(least, USD if least[EQUAL] is None else EQUAL)
    if r[EQUAL] is not None:
        return f"{number(r, EQUAL) / base:.2f}"
    return f"{number(r, USD) / base:.2f} ({number(r, 'attainment'):.1%})"


def markdown(results: Sequence[Result], router: str, cold_s: float) -> None:
    """The table of costs for documents, and below it how each rule behaved over all its cases."""
    mine = [r for r in results if r["router"] == router and r["cold_s"] == cold_s]
    rules = [n for n in RULES if n != BOUND and any(r["rule"] == n for r in mine)]
    if not mine:
        return
    print(f"\n| {router}, {cold_s:.0f} s | {BOUND}, $/h | " + " | ".join(rules) + " |")
    print("| --- " * (len(rules) + 2) + "|")
    for case in dict.fromkeys(r["case"] for r in mine):
        row = {r["rule"]: r for r in mine if r["case"] == case}
        least = row.get(BOUND)
        usd = "-" if least is None or least[EQUAL] is None else f"{number(least, EQUAL):.2f}"
        print(f"| {case} | {usd} | " + " | ".join(_cell(row.get(n), least) for n in rules) + " |")
    print("\n| rule | cases | met as tuned | answered | changes of direction an hour | recovery |")
    print("| --- " * 6 + "|")
    for rule in (BOUND, *rules):
        print(_behaviour(rule, [r for r in mine if r["rule"] == rule]))


def _behaviour(rule: str, mine: Sequence[Result]) -> str:
    met = sorted(number(r, "attainment") for r in mine)
    answered = sorted(number(r, "quality") for r in mine)
    flaps = sorted(number(r, "flaps_per_hour") for r in mine)
    recoveries = [number(r, "recovery_s") for r in mine if r["recovery_s"] is not None]
    middle = len(mine) // 2
    return (
        f"| {rule} | {len(mine)} | {met[middle]:.1%} ({met[0]:.1%} to {met[-1]:.1%}) |"
        f" {answered[middle]:.1%} | {flaps[middle]:.1f} (to {flaps[-1]:.1f}) |"
        f" {f'{max(recoveries):.0f} s' if recoveries else '-'} |"
        if mine
        else f"| {rule} | 0 | - | - | - | - |"
    )
