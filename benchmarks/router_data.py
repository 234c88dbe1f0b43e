"""Real outcomes with cross-fitted estimates, split afresh: what benchmarks of policies share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.router_tasks import LLAMA_8B, LLAMA_70B, LLAMA_405B
from serve_apps.router.estimates import Estimates
from serve_apps.router.estimators.registry import build
from serve_apps.router.evaluation.contenders import Contender, cross_fitted, learned
from serve_apps.router.evaluation.evaluate import TokenCost
from serve_apps.router.evaluation.splits import Split, hash_splits
from serve_apps.router.features.text import TextFeatures
from serve_apps.router.outcomes import Outcomes

CONTENDER: Contender = learned(
    "text + low rank", TextFeatures(), build("low_rank", {"layout": "hand"})
)
SEED = 100

QWEN_7B, GEMMA_9B, PHI = "Qwen2-7B-Instruct", "gemma-2-9b-it", "Phi-3.5-mini-instruct"
ACTIVE_B = {
    "gemma-2-2b-it": 2.6,
    PHI: 3.8,
    QWEN_7B: 7.6,
    LLAMA_8B: 8.0,
    GEMMA_9B: 9.2,
    "gemma-2-27b-it": 27.2,
    LLAMA_70B: 70.6,
    "Qwen2-72B-Instruct": 72.7,
    LLAMA_405B: 405.0,
}
PROBES = (QWEN_7B, GEMMA_9B, PHI)

Figure = tuple[float, float]


def cost_of(active_b: Mapping[str, float]) -> TokenCost:
    """Active parameters times output tokens."""
    return TokenCost({model: (0.0, b) for model, b in active_b.items()})


@dataclass(frozen=True)
class Told:
    """Outcomes with estimates: of prompts to learn from (cross-fitted) and of those to judge."""

    train: Outcomes
    train_told: Estimates
    test: Outcomes
    test_told: Estimates

    def only(self, models: Sequence[str]) -> Told:
        """These models alone."""
        at = [self.train.models.index(m) for m in models]
        return Told(
            self.train.only(models),
            only(self.train_told, at),
            self.test.only(models),
            only(self.test_told, at),
        )


def told_of(outcomes: Outcomes, split: Split) -> Told:
    """Fit on the training part, on every model of the table."""
    rng = np.random.default_rng(SEED)
    train, test = outcomes.rows(split.train), outcomes.rows(split.test)
    known = cross_fitted(CONTENDER, train, rng, folds=3)
    return Told(train, known, test, CONTENDER.fit(train, rng)(test.prompts))


def only(told: Estimates, at: Sequence[int]) -> Estimates:
    return Estimates(
        tuple(told.models[i] for i in at),
        told.quality[:, at],
        told.quality_sd[:, at],
        told.output_tokens[:, at],
    )


def answered_by(outcomes: Outcomes, models: Sequence[str]) -> Outcomes:
    """The prompts that these models all answered, with whatever the others made of them."""
    at = [outcomes.models.index(m) for m in models]
    return outcomes.rows(np.flatnonzero(np.isfinite(outcomes.score[:, at]).all(axis=1)))


def splits_of(outcomes: Outcomes, folds: int, count: int) -> list[Split]:
    """Fresh ones, by hash of the prompt."""
    keys = [p.text for p in outcomes.prompts]
    return hash_splits(keys, folds, repeats=-(-count // folds), seed=SEED)[:count]


def figure(values: Sequence[float]) -> Figure:
    """Mean and standard deviation over splits."""
    return float(np.mean(values)), float(np.std(values))


def alone(outcomes: Outcomes, model: str, cost: TokenCost) -> tuple[float, float]:
    one = outcomes.only([model])
    paid = cost.of([model], one.input_tokens, one.output_tokens)
    return float(paid.mean()), float(one.score.mean())
