"""Difficulty levels 1 to 5: predict the level of a prompt, read off how each model fares there."""

from __future__ import annotations

import numpy as np

from serve_apps.router.estimators.scorer import (
    Floats,
    Scorer,
    State,
    Table,
    filled,
    logistic_weights,
    sigmoid,
)

LEVELS = 5
PRIOR_PROMPTS = 10.0


class DifficultyScorer(Scorer):
    """Levels are fifths of the training prompts by the share of models that fail.

    P(level > k | x) by four logistic regressions; a model's score is its mean score per level,
    drawn to its mean over all, weighted by the level's probability.
    """

    name = "difficulty"

    def __init__(self, ridge: float = 100.0) -> None:
        self.ridge = ridge

    def fit(self, shared: State, table: Table, rng: np.random.Generator) -> State:
        """Levels, their predictors, and the mean scores per level."""
        level = levels_of(table.y)
        above = (level[:, None] > np.arange(1, LEVELS)).astype(np.float64)
        weights, bias = logistic_weights(table.x, above, self.ridge)
        y = filled(table.y)
        mean = y.mean(axis=0)
        at = level[:, None] == np.arange(1, LEVELS + 1)
        total = at.T.astype(np.float64) @ y + PRIOR_PROMPTS * mean
        return {
            "weights": weights,
            "bias": bias,
            "scores": total / (at.sum(axis=0)[:, None] + PRIOR_PROMPTS),
        }

    def predict(self, shared: State, state: State, x: Floats) -> Floats:
        """Expected over the levels."""
        above = sigmoid(x @ state["weights"] + state["bias"])
        # Each regression is fitted alone: what is above a level is above those below it.
        above = np.minimum.accumulate(above, axis=1)
        edge = np.ones((len(x), 1))
        chance = np.concatenate([edge, above], axis=1) - np.concatenate([above, edge * 0], axis=1)
        return np.asarray(chance @ state["scores"])


def levels_of(y: Floats) -> Floats:
    """Level 1 (easy) to 5 of each prompt, ``[prompts]``, by the failures of all models.

    Models that were not run count with their mean, ties are spread by order of appearance.
    """
    failures = 1 - filled(y).mean(axis=1)
    rank = np.empty(len(y))
    rank[np.argsort(failures, kind="stable")] = np.arange(len(y))
    return np.asarray(1 + np.floor(rank * LEVELS / len(y)))
