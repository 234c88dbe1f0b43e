"""Matrix factorisation on preferences: models and prompts meet in a few dimensions.

The best of RouteLLM's light routers (Ong et al., arXiv 2406.18665, section 4.2.2), for any number
of models and any features.
"""

from __future__ import annotations

import numpy as np

from serve_apps.router.estimators.preferences import loss_of, minimise, preferences_of
from serve_apps.router.estimators.scorer import Floats, Scorer, State, Table, sigmoid


class PreferenceFactorsScorer(Scorer):
    """strength[m](x) = bias[m] + (x . projection) . embedding[m]."""

    name = "matrix_factorisation"

    def __init__(self, rank: int = 4, ridge: float = 30.0) -> None:
        self.rank = rank
        self.ridge = ridge

    def fit(self, shared: State, table: Table, rng: np.random.Generator) -> State:
        """Maximum a posteriori, from a random start."""
        told = preferences_of(table.y, rng)
        x, dimensions, models = table.x, table.x.shape[1], table.y.shape[1]
        parts = np.cumsum([dimensions * self.rank, models * self.rank])

        def unpack(flat: Floats) -> tuple[Floats, Floats, Floats]:
            projection, embedding, bias = np.split(flat, parts)
            shape = (dimensions, self.rank), (models, self.rank)
            return projection.reshape(shape[0]), embedding.reshape(shape[1]), bias

        def objective(flat: Floats) -> tuple[float, Floats]:
            projection, embedding, bias = unpack(flat)
            seen = x @ projection
            value, gradient = loss_of(seen @ embedding.T + bias, told)
            value += self.ridge * float((projection**2).sum() + (embedding**2).sum()) / 2
            return value + float(bias @ bias) / 2, np.concatenate(
                [
                    (x.T @ (gradient @ embedding) + self.ridge * projection).ravel(),
                    (gradient.T @ seen + self.ridge * embedding).ravel(),
                    gradient.sum(axis=0) + bias,
                ]
            )

        start = rng.normal(size=parts[-1] + models) * 0.1
        start[parts[-1] :] = 0.0
        projection, embedding, bias = unpack(minimise(objective, start))
        return {"projection": projection, "embedding": embedding, "bias": bias}

    def predict(self, shared: State, state: State, x: Floats) -> Floats:
        """P(beats a model of strength zero)."""
        return sigmoid((x @ state["projection"]) @ state["embedding"].T + state["bias"])
