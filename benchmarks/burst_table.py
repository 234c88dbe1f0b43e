"""Tables and headline figures of the burst benchmark: one row per policy, scenario and seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.burst_load import BASE, Scenario
from benchmarks.burst_results import Row
from serve_apps.router.load_values import LoadValues

if TYPE_CHECKING:
    from benchmarks.burst_cases import Setting

AVAILABLE = 0.95
"""A rate counts as served while this share of requests is answered before its deadline."""
COLUMNS = (
    "attainment",
    "availability",
    "quality_share",
    "near_peak",
    "goodput_rps",
    "quality_per_gpu_hour",
)
ORDER = (
    "large-only",
    "small-only",
    "random",
    "threshold",
    "queue rule",
    "RL",
    "ours",
    "hindsight",
)
RULES = ("small-only", "random", "threshold", "queue rule")
STATIC = ("large-only", "small-only")
"""One model, whatever comes."""
NAMED = {
    "availability_rate_multiple": min,
    "quality_share_at_2x": min,
    "attainment_vs_best_tuned_rule": min,
    "recovery_s_5x": max,
}
"""The last line's figures, and which of the cases' is the worst."""


def values(
    rows: Iterable[Row], name: str, policy: str, scenario: Scenario, case: str
) -> list[float]:
    """One measure, a value a seed in their order."""
    return [
        float(getattr(r.measures, name))
        for r in rows
        if (r.policy, r.scenario, r.case) == (policy, scenario, case)
    ]


def show(rows: Sequence[Row], setting: Setting, policies: Mapping[str, LoadValues]) -> None:
    """Print everything, mean and standard deviation over seeds."""
    for case in dict.fromkeys(r.case for r in rows):
        fleet = setting.fleets[case]
        rate = ", ".join(
            f"{p.replicas} x {p.model} {c:.1f}/s"
            for p, c in zip(fleet.parts, fleet.capacity_rps, strict=True)
        )
        print(f"\n== {case}: {fleet.gpus} GPUs, inside the SLO {rate}")
        if case in policies:
            v = policies[case].verdict
            print(
                f"RL's trial on {v.patterns} unseen generated patterns: {v.learned:.4f} against "
                f"{v.priced:.4f} of the priced policy, error of the difference {v.error:.4f}: "
                f"{'used' if v.better else 'not used'} in production"
            )
        own = [r for r in rows if r.case == case]
        for scenario in sorted({r.scenario for r in own}, key=lambda s: (s.spike or 0, s.multiple)):
            _show_scenario(own, scenario, case)


def _show_scenario(rows: Sequence[Row], scenario: Scenario, case: str) -> None:
    here = {r.policy for r in rows if r.scenario == scenario}
    print(f"\n{scenario.name:22} " + " ".join(f"{c[:15]:>15}" for c in (*COLUMNS, "recovery_s")))
    for policy in (p for p in ORDER if p in here):
        cells = [values(rows, c, policy, scenario, case) for c in COLUMNS]
        text = " ".join(f"{_cell(c):>15}" for c in cells)
        back = values(rows, "recovery_s", policy, scenario, case)
        print(f"{policy:22} {text} {_recovery(back) if scenario.spike else '':>15}")


def _cell(found: Sequence[float]) -> str:
    mean = float(np.mean(found))
    digits = 3 if mean < 10 else 0
    return f"{mean:.{digits}f} +-{np.std(found):.{digits}f}"


def _recovery(found: Sequence[float]) -> str:
    never = int(np.isinf(found).sum())
    text = f"{np.median(found):.0f} (median)"
    return f"{text}, {never} never" if never else text


def highest_served(rows: Sequence[Row], policy: str, case: str) -> float:
    """The highest multiple with mean availability of 95 %, between the grid's points linear in
    the logarithm; the grid's ends where it is all above or all below.
    """
    found = sorted(
        {
            r.scenario
            for r in rows
            if r.case == case and r.policy == policy and not r.scenario.spike
        },
        key=lambda s: s.multiple,
    )
    shares = [float(np.mean(values(rows, "availability", policy, s, case))) for s in found]
    multiples = [s.multiple for s in found]
    below = [k for k, share in enumerate(shares) if share < AVAILABLE]
    if not below:
        return multiples[-1]
    k = below[0]
    if k == 0:
        return multiples[0]
    part = (shares[k - 1] - AVAILABLE) / (shares[k - 1] - shares[k])
    return float(multiples[k - 1] * (multiples[k] / multiples[k - 1]) ** part)


def figures(rows: Sequence[Row]) -> dict[str, Any]:
    """The last line: each case's figures under its name, those of `NAMED` of the worst case first.

    Cases in which large-only, ours or the loads that figures speak of were not judged are left out.
    """
    found = {}
    for case in dict.fromkeys(r.case for r in rows):
        own = [r for r in rows if r.case == case]
        if _judged(own):
            found[case] = _of_case(own, case)
    if not found:
        return {"cases": 0}
    worst = {name: _worst(by, [f[name] for f in found.values()]) for name, by in NAMED.items()}
    each = {f"{n}_{c.replace(' ', '_')}": v for c, f in found.items() for n, v in f.items()}
    return worst | {"cases": len(found)} | each


def _worst(by: Callable[[list[float]], float], found: list[float | None]) -> float | None:
    """None, never, is the worst there is."""
    known = [v for v in found if v is not None]
    return by(known) if len(known) == len(found) else None


def _judged(rows: Sequence[Row]) -> bool:
    here = {(r.policy, r.scenario.multiple, r.scenario.spike) for r in rows}
    loads = {(2.0, None), (BASE, 5.0)}
    rules = any((p, *load) in here for p in RULES for load in loads)
    return rules and all((p, *load) in here for p in ("large-only", "ours") for load in loads)


def _of_case(rows: Sequence[Row], case: str) -> dict[str, Any]:
    rules = [p for p in RULES if any(r.policy == p for r in rows)]
    scenarios = list(dict.fromkeys(r.scenario for r in rows if r.policy == rules[0]))
    everywhere = list(dict.fromkeys(r.scenario for r in rows))
    double = next(s for s in scenarios if s.multiple == 2.0)
    five = next(s for s in scenarios if s.spike == 5.0)
    ours, large = (highest_served(rows, p, case) for p in ("ours", "large-only"))

    def mean(name: str, policy: str, scenario: Scenario) -> float:
        return float(np.mean(values(rows, name, policy, scenario, case)))

    def best_of(name: str, policies: Iterable[str]) -> str:
        return max(policies, key=lambda p: np.mean([mean(name, p, s) for s in scenarios]))

    def peak(policy: str, among: Iterable[Scenario]) -> float:
        return max(mean("quality_per_gpu_hour", policy, s) for s in among)

    # The best tuned rule over all scenarios, by what it earned: one rule, not one a scenario.
    best = best_of("earned_share", rules)
    gaps = [mean("attainment", "ours", s) - mean("attainment", best, s) for s in scenarios]
    worth = [mean("quality_share", "ours", s) - mean("quality_share", best, s) for s in scenarios]
    static = best_of("near_peak", [p for p in STATIC if p == "large-only" or p in rules])
    often = {p: np.mean([mean("near_peak", p, s) for s in scenarios]) for p in ("ours", static)}
    back = float(np.median(values(rows, "recovery_s", "ours", five, case)))
    return {
        "availability_rate_multiple": round(ours / large, 2),
        "quality_share_at_2x": round(mean("quality_share", "ours", double), 4),
        "attainment_vs_best_tuned_rule": round(float(np.mean(gaps)), 4),
        "recovery_s_5x": back if np.isfinite(back) else None,
        "attainment_vs_best_tuned_rule_worst": round(float(min(gaps)), 4),
        "quality_vs_best_tuned_rule": round(float(np.mean(worth)), 4),
        "quality_vs_best_tuned_rule_worst": round(float(min(worth)), 4),
        "best_tuned_rule": best,
        "quality_share_at_2x_sd": round(
            float(np.std(values(rows, "quality_share", "ours", double, case))), 4
        ),
        "near_peak": round(float(often["ours"]), 3),
        "near_peak_multiple": _ratio(float(often["ours"]), float(often[static])),
        "quality_per_gpu_multiple": _ratio(peak("ours", scenarios), peak("large-only", scenarios)),
        "quality_per_gpu_multiple_any_load": _ratio(
            peak("ours", everywhere), peak("large-only", everywhere)
        ),
    }


def _ratio(ours: float, theirs: float) -> float | None:
    """None where they never had any."""
    return round(ours / theirs, 2) if theirs > 0 else None
