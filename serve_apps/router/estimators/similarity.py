"""Benchmark similarity: a new task is answered as well as the benchmarks it resembles.

Needs no labels of the task itself. A prompt far from every benchmark falls back to each model's
mean over benchmarks, the farther the more: out of distribution, a prior beats a guess.
"""

from __future__ import annotations

import numpy as np

from serve_apps.router.estimators.low_rank import squared_distances
from serve_apps.router.estimators.scorer import Floats, Scorer, State, Table

PRIOR_PROMPTS = 10.0
FAR = 0.95
"""A distance is far when this share of training prompts is nearer to a benchmark."""


class SimilarityScorer(Scorer):
    """Softmax over benchmarks (subjects) of -distance^2 / ``temperature``, as weights of scores."""

    name = "similarity"

    def __init__(self, temperature: float = 0.25) -> None:
        self.temperature = temperature

    def fit(self, shared: State, table: Table, rng: np.random.Generator) -> State:
        """Centre and mean scores of each subject; how near its own prompts are."""
        names, of = np.unique(table.subject, return_inverse=True)
        one = (of[None] == np.arange(names.size)[:, None]).astype(np.float64)
        centre = one @ table.x / one.sum(axis=1, keepdims=True)
        known = np.isfinite(table.y)
        count = one @ known
        prior = np.where(known, table.y, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        total = one @ np.where(known, table.y, 0.0)
        scores = (total + PRIOR_PROMPTS * prior) / (count + PRIOR_PROMPTS)
        nearest = squared_distances(table.x, centre).min(axis=1)
        return {
            "centre": centre,
            "scores": scores,
            # Benchmarks weigh alike in what is assumed of a task like none of them.
            "prior": scores.mean(axis=0),
            "typical": np.array(max(float(np.median(nearest)), 1e-9)),
            "far": np.array(max(float(np.quantile(nearest, FAR)), 1e-9)),
        }

    def predict(self, shared: State, state: State, x: Floats) -> Floats:
        """Weighted scores, discounted by distance."""
        apart = squared_distances(x, state["centre"])
        z = -(apart - apart.min(axis=1, keepdims=True)) / (self.temperature * state["typical"])
        weight = np.exp(z)
        weight /= weight.sum(axis=1, keepdims=True)
        trust = np.exp(-np.maximum(apart.min(axis=1, keepdims=True) / state["far"] - 1, 0))
        return np.asarray(state["prior"] + trust * (weight @ state["scores"] - state["prior"]))
