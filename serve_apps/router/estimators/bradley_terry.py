"""Bradley-Terry strengths that depend on the prompt, trained on preferences alone."""

from __future__ import annotations

import numpy as np

from serve_apps.router.estimators.preferences import loss_of, minimise, preferences_of
from serve_apps.router.estimators.scorer import Floats, Scorer, State, Table, sigmoid


class BradleyTerryScorer(Scorer):
    """strength[m](x) = bias[m] + x . weights[:, m]; ``ridge`` on the weights.

    Preferences tell models apart, not how hard a prompt is: calibration gives the level, so this
    ranks models on a prompt well, and prompts for a model less so.
    """

    name = "bradley_terry"

    def __init__(self, ridge: float = 100.0) -> None:
        self.ridge = ridge

    def fit(self, shared: State, table: Table, rng: np.random.Generator) -> State:
        """Maximum a posteriori."""
        told = preferences_of(table.y, rng)
        (prompts, dimensions), models = table.x.shape, table.y.shape[1]
        x = np.column_stack([table.x, np.ones(prompts)])

        def objective(flat: Floats) -> tuple[float, Floats]:
            weights = flat.reshape(dimensions + 1, models)
            value, gradient = loss_of(x @ weights, told)
            penalty = np.full((dimensions + 1, 1), self.ridge)
            penalty[-1] = 1.0
            value += float((penalty * weights**2).sum()) / 2
            return value, (x.T @ gradient + penalty * weights).ravel()

        found = minimise(objective, np.zeros((dimensions + 1) * models))
        found = found.reshape(dimensions + 1, models)
        return {"weights": found[:-1], "bias": found[-1]}

    def predict(self, shared: State, state: State, x: Floats) -> Floats:
        """P(beats a model of strength zero, the pool's mean)."""
        return sigmoid(x @ state["weights"] + state["bias"])
