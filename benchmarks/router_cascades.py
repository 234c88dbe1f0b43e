"""Cascades on real outcomes: fitted, chosen on training prompts, judged on the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.router_data import (
    SEED,
    Figure,
    Told,
    alone,
    figure,
)
from serve_apps.router.estimates import Estimates
from serve_apps.router.evaluation import metrics
from serve_apps.router.evaluation.cascades import (
    CascadeRun,
    CascadeTrial,
    answers_of,
    apgr_by_calls,
    apgr_by_cost,
)
from serve_apps.router.evaluation.evaluate import TokenCost
from serve_apps.router.evaluation.metrics import Curve
from serve_apps.router.evaluation.splits import hash_splits
from serve_apps.router.policies.beliefs import fit_beliefs

WORTHS = np.concatenate([[0.0], np.geomspace(300, 3e6, 40)])


@dataclass(frozen=True)
class Plan:
    """A cascade to try: whom it asks in order, and whether probes' answers may stand too."""

    order: tuple[str, ...]
    anyone: bool

    def __str__(self) -> str:
        names = " > ".join(m.removeprefix("Meta-").removesuffix("-Instruct") for m in self.order)
        return f"{names}{' (any answer)' if self.anyone else ''}"


def plans(weak: str, probes: Sequence[str]) -> list[Plan]:
    """The weak model and up to two probes, the weak one first or last."""
    pairs = [(a, b) for i, a in enumerate(probes) for b in probes[i + 1 :]]
    orders = [(weak,), *((weak, p) for p in probes), *((p, weak) for p in probes)]
    orders += [order for a, b in pairs for order in ((weak, a, b), (a, b, weak))]
    return [Plan(o, anyone) for o in orders for anyone in (False, True)[: len(o)]]


def trial_of(told: Told, plan: Plan, weak: str, strong: str, cost: TokenCost) -> CascadeTrial:
    """Fit a cascade and set it before the prompts to judge."""
    models = (*plan.order, strong)
    accept = () if plan.anyone else (weak,)
    at = [told.train.models.index(m) for m in models]
    ends = [at[0], at[-1]]
    beliefs = fit_beliefs(
        plan.order,
        strong,
        told.train_told.quality[:, ends],
        answers_of(told.train, plan.order),
        told.train.score[:, at],
        accept=accept,
    )
    test = told.test.only(models)
    price = cost.of(models, test.input_tokens, told.test_told.output_tokens[:, at])
    paid = cost.of(models, test.input_tokens, test.output_tokens)
    return CascadeTrial(beliefs, told.test_told.quality[:, ends], price, told.test, paid)


@dataclass(frozen=True)
class Found:
    """A cascade on one split."""

    plan: Plan
    by_cost: float
    by_calls: float
    without: float
    curve: Curve
    strong: tuple[float, float]


def judge(
    told: Told, plan: Plan, weak: str, strong: str, cost: TokenCost, *, every: int = 1
) -> Found:
    """Both APGRs of a plan, that of the estimates alone, and its curve.

    ``every``: take only every so manieth worth, for a first look.
    """
    trial = trial_of(told, plan, weak, strong, cost)
    runs = [trial(worth) for worth in WORTHS[::every]]
    ends = [alone(told.test, m, cost) for m in (weak, strong)]
    w, s = (told.test.score[:, told.test.models.index(m)] for m in (weak, strong))
    quality = told.test_told.quality
    gap = quality[:, told.test.models.index(strong)] - quality[:, told.test.models.index(weak)]
    return Found(
        plan,
        apgr_by_cost(runs, ends[0], ends[1]),
        apgr_by_calls(*trial.by_calls(), w, s),
        metrics.apgr(gap, w, s),
        hull(runs, ends),
        ends[1],
    )


def hull(runs: Sequence[CascadeRun], ends: Sequence[tuple[float, float]]) -> Curve:
    points = [(float(r.cost.mean()), float(r.quality.mean())) for r in runs] + list(ends)
    cost, quality = np.array(points).T
    return metrics.upper_hull(cost, quality)


def choose_plan(
    told: Told, tried: Sequence[Plan], weak: str, strong: str, cost: TokenCost
) -> tuple[Plan, dict[str, float]]:
    """The plan of the best APGR by cost on a third of the training prompts, learned on the rest."""
    keys = [p.text for p in told.train.prompts]
    inner = hash_splits(keys, 3, seed=SEED + 1)[0]
    part = Told(
        told.train.rows(inner.train),
        rows(told.train_told, inner.train),
        told.train.rows(inner.test),
        rows(told.train_told, inner.test),
    )
    found = {plan: judge(part, plan, weak, strong, cost, every=3).by_cost for plan in tried}
    return max(found, key=found.__getitem__), {str(p): v for p, v in found.items()}


def rows(told: Estimates, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Estimates:
    return Estimates(
        told.models, told.quality[rows], told.quality_sd[rows], told.output_tokens[rows]
    )


def cascades(
    told: Sequence[Told],
    weak: str,
    strong: str,
    probes: Sequence[str],
    cost: TokenCost,
    chosen: Sequence[Plan] = (),
) -> tuple[list[Found], dict[str, list[float]]]:
    """The chosen cascade of each split, and what all plans reached in the choosing.

    ``chosen``: a plan per split that was chosen already, for another pair.
    """
    found: list[Found] = []
    tried: dict[str, list[float]] = {}
    for i, each in enumerate(told):
        part = each.only([weak, *probes, strong])
        options = [chosen[i]] if chosen else plans(weak, probes)
        plan, inner = choose_plan(part, options, weak, strong, cost)
        found.append(judge(part, plan, weak, strong, cost))
        for name, value in inner.items():
            tried.setdefault(name, []).append(value)
    return found, tried


def share_saved(found: Sequence[Found], quality: float) -> Figure:
    """1 - cost over the strong model's, at this share of its quality."""
    return figure(
        [1 - metrics.cost_to_reach(f.curve, quality * f.strong[1]) / f.strong[0] for f in found]
    )
