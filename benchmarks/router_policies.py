"""What routing policies bring on real outcomes: cascades, bandits, votes, and what they cost.

    python -m benchmarks.router_policies [--data DIR] [--splits N] [--quick]

Splits are by hash of the prompt; estimates for training prompts are cross-fitted; which models a
cascade probes, and in which order, is chosen on a part of each training split. Cost is active
parameters (billions) times output tokens; a cascade pays for every answer it asks for. Its APGR is
given twice: over the share of *cost* (0: the 8B alone; 1: the 70B alone; blind mixing: 0.5), and
over the share of calls to the strong model with probes for free, as the field counts.

Estimates come from the default features and estimator, learned from all models of the table. The
last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.router_bandits import bandits
from benchmarks.router_cascades import Plan, cascades, share_saved
from benchmarks.router_data import (
    ACTIVE_B,
    CONTENDER,
    PROBES,
    SEED,
    Figure,
    Told,
    alone,
    answered_by,
    cost_of,
    figure,
    splits_of,
    told_of,
)
from benchmarks.router_tasks import DATA, LLAMA_8B, LLAMA_70B, LLAMA_405B
from serve_apps.router.evaluation import metrics
from serve_apps.router.evaluation.evaluate import complete
from serve_apps.router.evaluation.metrics import Curve, Floats
from serve_apps.router.evaluation.replay import replay
from serve_apps.router.outcomes import Outcomes, read_outcomes
from serve_apps.router.policies.ensemble import Ensemble
from serve_apps.router.policies.preference import calibrate
from serve_apps.router.policies.steps import SimulatedSteps
from serve_apps.router.policies.stepwise import WIDTH, Setting, Stepwise, trace_thresholds, train

GAP = 3
"""Position of the estimates' gap among what a stepwise policy observes."""


def pool_savings(all_told: Sequence[Told], active_b: Mapping[str, float]) -> dict[str, Figure]:
    """Routing by expected correctness in a pool: cost saved against the best single model.

    ``calibrated``: the worth is set on training prompts for a share of the best single's quality;
    what it then reaches and saves on the test prompts.
    """
    models, cost = list(active_b), cost_of(active_b)
    saved: dict[str, list[float]] = {}
    for each in all_told:
        told = each.only(models)
        price, train_price = (
            cost.of(models, part.input_tokens, tokens)
            for part, tokens in (
                (told.test, told.test_told.output_tokens),
                (told.train, told.train_told.output_tokens),
            )
        )
        paid, train_paid = (
            cost.of(models, part.input_tokens, part.output_tokens)
            for part in (told.test, told.train)
        )
        curve = _with_singles(
            metrics.tradeoff_curve(told.test_told.quality, price, told.test.score, paid),
            told.test.score,
            paid,
        )
        for share in (1.0, 0.99, 0.97, 0.95):
            at = metrics.cost_at_quality(curve, told.test.score, paid, share)
            saved.setdefault(f"saved at {share:.0%}", []).append(1 - at)
        levels = calibrate(told.train_told.quality, train_price, told.train.score, train_paid)
        best = metrics.best_single(told.train.score, train_paid)
        for share in (1.0, 0.97):
            chosen = (levels.for_quality(share) * told.test_told.quality - price).argmax(axis=1)
            spent, reached = metrics.realised(chosen, told.test.score, paid)
            title = f"calibrated for {share:.0%}"
            ratio = reached / float(told.test.score[:, best].mean())
            saved.setdefault(f"{title}: quality", []).append(ratio)
            saved.setdefault(f"{title}: saved", []).append(1 - spent / float(paid[:, best].mean()))
    return {name: figure(values) for name, values in saved.items()}


def _with_singles(curve: Curve, quality: Floats, cost: Floats) -> Curve:
    """A router may also be set to one model whatever is asked: those settings are its own too."""
    return metrics.upper_hull(
        np.append(curve.cost, cost.mean(axis=0)), np.append(curve.quality, quality.mean(axis=0))
    )


def strong_calls(outcomes: Outcomes, splits: int) -> dict[str, Figure]:
    """Share of strong calls at 95 % of the strong model's quality, MMLU, half to learn from."""
    weak, strong = "mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview"
    rows = np.flatnonzero(np.array(outcomes.dataset) == "mmlu")
    table = complete(outcomes.rows(rows).only([weak, strong]))
    share = []
    for split in splits_of(table, 2, splits):
        train, test = table.rows(split.train), table.rows(split.test)
        told = CONTENDER.fit(train, np.random.default_rng(SEED))(test.prompts)
        w, s = test.score.T
        pgr = (0.95 * s.mean() - w.mean()) / (s.mean() - w.mean())
        share.append(metrics.cpt(told.quality[:, 1] - told.quality[:, 0], w, s, float(pgr)))
    return {"strong calls at 95 %": figure(share), "fewer": figure([1 / c for c in share])}


def votes(all_told: Sequence[Told]) -> dict[str, Figure]:
    """Ensembles under a budget, beside one model a request at the same mean cost."""
    models, cost = list(ACTIVE_B), cost_of(ACTIVE_B)
    lead: dict[str, list[float]] = {}
    for each in all_told:
        told = each.only(models)
        price = cost.of(models, told.test.input_tokens, told.test_told.output_tokens)
        paid = cost.of(models, told.test.input_tokens, told.test.output_tokens)
        single = metrics.tradeoff_curve(told.test_told.quality, price, told.test.score, paid)
        hull = metrics.upper_hull(single.cost, single.quality)
        for budget in (5e3, 1e4, 2e4):
            run = replay(Ensemble(budget), told.test, told.test_told, price, paid)
            gain = float(run.quality.mean() - hull.at(run.cost.mean()))
            lead.setdefault(f"budget {budget:g}", []).append(gain)
    return {name: figure(values) for name, values in lead.items()}


async def stepwise(all_told: Sequence[Told]) -> dict[str, Figure]:
    """SIMULATED chains of 8B and 70B: share of the gap won at half of the way in cost."""
    found: dict[str, list[float]] = {"learned": [], "whole chains by the gap": []}
    for seed, each in enumerate(all_told):
        rng = np.random.default_rng(SEED + seed)
        told = each.only([LLAMA_8B, LLAMA_70B])
        mean = [alone(told.train, m, cost_of(ACTIVE_B))[0] for m in told.train.models]
        parts = [(told.train, told.train_told), (told.test, told.test_told)]
        learn, judged = (
            SimulatedSteps(part, known.quality, (mean[0], mean[1]), rng) for part, known in parts
        )
        # Quality is worth what the large model asks for it on average: neither always pays.
        worth = (mean[1] - mean[0]) / float(np.diff(told.train.score.mean(axis=0))[0])
        policy = await train(learn, LLAMA_8B, LLAMA_70B, worth=worth, rng=rng, episodes=4000)
        settings = await trace_thresholds(judged, policy, chains=400, points=9)
        found["learned"].append(_half_way(settings_curve(settings)))
        by_gap = Stepwise(LLAMA_8B, LLAMA_70B, np.eye(WIDTH)[GAP])
        whole = await trace_thresholds(judged, by_gap, chains=400, points=9)
        found["whole chains by the gap"].append(_half_way(settings_curve(whole)))
    return {name: figure(values) for name, values in found.items()}


def settings_curve(settings: Sequence[Setting]) -> Curve:
    """The hull of thresholds tried."""
    points = np.array([(s.cost, s.score) for s in settings])
    return metrics.upper_hull(points[:, 0], points[:, 1])


def _half_way(hull: Curve) -> float:
    """PGR at half of the way in cost from all-small to all-large."""
    middle = (hull.cost[0] + hull.cost[-1]) / 2
    return float((hull.at(middle) - hull.quality[0]) / (hull.quality[-1] - hull.quality[0]))


def show(title: str, figures: Mapping[str, Figure]) -> None:
    """Print a group of figures."""
    print(f"\n{title}", flush=True)
    for name, (mean, spread) in figures.items():
        print(f"  {name:44} {mean:7.3f} ± {spread:.3f}")


def run(data: Path, splits: int, *, rest: bool = True) -> dict[str, float]:
    """Everything; prints as it goes."""
    zeroeval = read_outcomes(data / "zeroeval.parquet")
    cost = cost_of(ACTIVE_B)
    table = answered_by(zeroeval, list(ACTIVE_B))
    told = [told_of(table, split) for split in splits_of(table, 5, splits)]
    result: dict[str, float] = {}
    chosen: list[Plan] = []
    for key, weak, strong in (
        ("zeroeval_8b_70b", LLAMA_8B, LLAMA_70B),
        ("zeroeval_8b_405b", LLAMA_8B, LLAMA_405B),
    ):
        found, tried = cascades(told, weak, strong, PROBES, cost, chosen)
        chosen = [f.plan for f in found]
        figures = {
            "APGR without a cascade": figure([f.without for f in found]),
            "APGR by share of cost, probes paid": figure([f.by_cost for f in found]),
            "APGR by share of strong calls, probes free": figure([f.by_calls for f in found]),
            **{
                f"compute saved at {q:.0%} of its quality": share_saved(found, q)
                for q in (1.0, 0.99, 0.97, 0.95)
            },
        }
        show(f"{key}, cascade chosen on training prompts: {found[0].plan}", figures)
        if key == "zeroeval_8b_70b":
            show("  plans tried, APGR by cost on training prompts", _sorted(tried))
        result[f"{key}_cascade_apgr"] = figures["APGR by share of cost, probes paid"][0]
        calls = figures["APGR by share of strong calls, probes free"][0]
        result[f"{key}_cascade_apgr_by_calls"] = calls
        result[f"{key}_apgr"] = figures["APGR without a cascade"][0]
        for q in (1.0, 0.99, 0.97, 0.95):
            saved = figures[f"compute saved at {q:.0%} of its quality"][0]
            result[f"{key}_cascade_saved_at_{q * 100:.0f}"] = saved
    if rest:
        result |= run_rest(data, table, told)
    return result


def run_rest(data: Path, zeroeval: Outcomes, told: Sequence[Told]) -> dict[str, float]:
    """All but the cascades."""
    splits = len(told)
    pool = pool_savings(told, ACTIVE_B)
    show("ZeroEval, 9 models, by expected correctness", pool)
    calls = strong_calls(read_outcomes(data / "routellm.parquet"), splits)
    show("MMLU, Mixtral to GPT-4, half to learn from", calls)
    learned = bandits(zeroeval, splits)
    for name, figures in learned.items():
        show(f"ZeroEval, 9 models, online with wishes: {name}", figures)
    vote = votes(told)
    show("ZeroEval, 9 models: score of a vote less that of one model at its cost", vote)
    steps = asyncio.run(stepwise(told[:3]))
    show("SIMULATED chains 8B and 70B: PGR half way in cost", steps)
    return {
        "correctness_saved_at_100": pool["saved at 100%"][0],
        "correctness_saved_at_99": pool["saved at 99%"][0],
        "correctness_calibrated_quality": pool["calibrated for 97%: quality"][0],
        "correctness_calibrated_saved": pool["calibrated for 97%: saved"][0],
        "strong_calls_at_95": calls["strong calls at 95 %"][0],
        "fewer_strong_calls_at_95": calls["fewer"][0],
        "bandit_saved_at_100": learned["LinUCB"]["saved at 100%"][0],
        "bandit_saved_at_99": learned["LinUCB"]["saved at 99%"][0],
        "bandit_saved_at_97": learned["LinUCB"]["saved at 97%"][0],
        "bandit_reward_gain": learned["LinUCB"]["reward"][0]
        - learned["estimates alone"]["reward"][0],
        "vote_gain_at_1e4": vote["budget 10000"][0],
        "stepwise_simulated_pgr_half": steps["learned"][0],
    }


def _sorted(tried: Mapping[str, Sequence[float]]) -> dict[str, Figure]:
    ranked = sorted(tried.items(), key=lambda item: -float(np.mean(item[1])))
    return {name: figure(values) for name, values in ranked}


def main() -> None:
    """Print the figures; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of outcome tables")
    parser.add_argument("--splits", type=int, default=5, help="number of splits")
    parser.add_argument("--quick", action="store_true", help="cascades alone, on one split")
    options = parser.parse_args()
    result = run(options.data, 1 if options.quick else options.splits, rest=not options.quick)
    print(json.dumps({k: round(v, 4) for k, v in result.items()}))


if __name__ == "__main__":
    main()
