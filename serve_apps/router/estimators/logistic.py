"""Logistic regression per model, the plain baseline; its penalty chosen by cross-validation."""

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

RIDGES = (10.0, 100.0)


class LogisticScorer(Scorer):
    """sigmoid(bias + x . weights) per model; ``ridge`` 0: chosen on a quarter held out."""

    name = "logistic"

    def __init__(self, ridge: float = 0.0) -> None:
        self.ridge = ridge

    def fit(self, shared: State, table: Table, rng: np.random.Generator) -> State:
        """One regression per model."""
        ridge = self.ridge or self._chosen(table, rng)
        weights, bias = logistic_weights(table.x, table.y, ridge)
        return {"weights": weights, "bias": bias}

    def predict(self, shared: State, state: State, x: Floats) -> Floats:
        """Probabilities."""
        return sigmoid(x @ state["weights"] + state["bias"])

    def _chosen(self, table: Table, rng: np.random.Generator) -> float:
        held = rng.random(len(table.x)) < 0.25
        if not held.any() or held.all():
            return RIDGES[-1]
        truth = filled(table.y)[held]
        errors = []
        for ridge in RIDGES:
            weights, bias = logistic_weights(table.x[~held], table.y[~held], ridge)
            errors.append(float(((sigmoid(table.x[held] @ weights + bias) - truth) ** 2).mean()))
        return RIDGES[int(np.argmin(errors))]
