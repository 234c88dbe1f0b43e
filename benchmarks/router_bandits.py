"""Bandits on real outcomes: they learn from the answers they chose, each request with its wish."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.router_data import ACTIVE_B, CONTENDER, SEED, Figure, answered_by, cost_of, figure
from benchmarks.router_data import only as only_models
from serve_apps.router.estimates import Estimates
from serve_apps.router.evaluation import metrics
from serve_apps.router.evaluation.metrics import Floats
from serve_apps.router.evaluation.splits import hash_splits
from serve_apps.router.outcomes import Outcomes
from serve_apps.router.policies.bandit import LinUcb, Thompson
from serve_apps.router.policies.base import Ask, LearningPolicy, Policy
from serve_apps.router.policies.utility import Utility

WISHES = np.geomspace(1e4, 1e8, 9)
"""Worths of one unit of quality, in active parameters (10^9) times output tokens.

An answer of the largest model costs 2e5, and is worth that where it adds a fifth of a score at 1e6:
only wishes far beyond that ask for all of its quality.
"""


def bandits(outcomes: Outcomes, seeds: int) -> dict[str, dict[str, Figure]]:
    """Online: a fifth of the prompts to start from, then feedback, each request with its own wish.

    A policy is told what the answer it chose for that wish was worth, and nothing else. Judged on
    the last half of the stream: there it is also asked what it would choose for every other wish,
    without being told more. Cost saved against the best single model where the quality is the same,
    over the hull of the wishes.
    """
    models, cost = list(ACTIVE_B), cost_of(ACTIVE_B)
    table = answered_by(outcomes, models)
    found: dict[str, dict[str, list[float]]] = {}
    for seed in range(seeds):
        rng = np.random.default_rng(SEED + seed)
        split = hash_splits([p.text for p in table.prompts], 5, seed=SEED + seed)[0]
        start, stream = table.rows(split.test), table.rows(rng.permutation(split.train))
        at = [table.models.index(m) for m in models]
        told = only_models(CONTENDER.fit(start, rng)(stream.prompts), at)
        stream = stream.only(models)
        price = cost.of(models, stream.input_tokens, told.output_tokens)
        paid = cost.of(models, stream.input_tokens, stream.output_tokens)
        own = rng.integers(WISHES.size, size=len(stream.prompts))
        for name, policy in learners(models, rng):
            chosen = online(policy, stream, told, price, paid, own)
            late = slice(len(own) // 2, None)
            figures = found.setdefault(name, {})
            for key, value in judged(chosen[late], stream.score[late], paid[late]).items():
                figures.setdefault(key, []).append(value)
    return {n: {m: figure(v) for m, v in f.items()} for n, f in found.items()}


def learners(models: Sequence[str], rng: np.random.Generator) -> Iterator[tuple[str, Policy]]:
    """The bandits, and the estimates that they start from.

    A ridge of 100 is what Bayes has for answers of variance 0.15 and estimates off by some 0.04.
    """
    yield "estimates alone", Utility(0.0)
    yield "LinUCB", LinUcb(models)
    yield "LinUCB, ridge 100", LinUcb(models, ridge=100.0)
    yield "Thompson", Thompson(models, rng=rng)
    yield "Thompson, ridge 100", Thompson(models, ridge=100.0, rng=rng)


def online(
    policy: Policy,
    stream: Outcomes,
    told: Estimates,
    price: Floats,
    paid: Floats,
    own: np.ndarray[tuple[int], np.dtype[np.int64]],
) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """``[requests, wishes]``: the model that the policy would choose at that time for each wish.

    It learns from the choice for the request's ``own`` wish alone.
    """
    models = stream.models
    learns = policy if isinstance(policy, LearningPolicy) else None
    chosen = np.zeros((len(own), WISHES.size), dtype=np.int64)
    for row, wish in enumerate(own.tolist()):
        asks = [
            Ask(models, told.quality[row].tolist(), price[row].tolist(), worth=worth)
            for worth in WISHES.tolist()
        ]
        chosen[row] = [models.index(policy.choose(ask).model) for ask in asks]
        if learns is not None:
            m = chosen[row, wish]
            learns.learn(asks[wish], models[m], float(stream.score[row, m]), float(paid[row, m]))
    return chosen


def judged(
    chosen: np.ndarray[tuple[int, int], np.dtype[np.int64]], score: Floats, paid: Floats
) -> dict[str, float]:
    """Cost saved at shares of the best single model's quality, and the mean reward."""
    best = metrics.best_single(score, paid)
    spent = np.take_along_axis(paid, chosen, axis=1).mean(axis=0)
    reached = np.take_along_axis(score, chosen, axis=1).mean(axis=0)
    # The best single model is a setting of its own.
    hull = metrics.upper_hull(
        np.append(spent / paid[:, best].mean(), 1.0),
        np.append(reached / score[:, best].mean(), 1.0),
    )
    saved = {
        f"saved at {share:.0%}": 1 - metrics.cost_to_reach(hull, share)
        for share in (1.0, 0.99, 0.97, 0.95)
    }
    return {**saved, "reward": float((reached - spent / WISHES).mean())}
