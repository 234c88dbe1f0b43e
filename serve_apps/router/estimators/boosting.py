"""Gradient-boosted trees that predict the factors all models share (see `low_rank`)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve_apps.router.estimators.low_rank import factorise
from serve_apps.router.estimators.scorer import Floats, Scorer, State, Table


class BoostingScorer(Scorer):
    """Trees are kept as arrays of complete binary trees and walked all at once."""

    name = "gradient_boosting"
    regression = True

    def __init__(
        self, trees: int = 60, depth: int = 3, learning_rate: float = 0.08, rank: int = 3
    ) -> None:
        self.trees = trees
        self.depth = depth
        self.learning_rate = learning_rate
        self.rank = rank

    def fit(self, shared: State, table: Table, rng: np.random.Generator) -> State:
        """One boosted ensemble per factor (Friedman, Stochastic Gradient Boosting, 2002)."""
        from sklearn.ensemble import GradientBoostingRegressor

        mean, factors, loadings = factorise(table.y, self.rank, rng)
        parts = []
        for f in range(factors.shape[1]):
            boosted = GradientBoostingRegressor(
                n_estimators=self.trees,
                max_depth=self.depth,
                learning_rate=self.learning_rate,
                subsample=0.5,
                max_features=0.3,
                min_samples_leaf=min(20, max(1, len(table.x) // 20)),
                random_state=int(rng.integers(1 << 31)),
            ).fit(table.x, factors[:, f])
            parts.append([self._complete(tree.tree_) for tree in boosted.estimators_[:, 0]])
        names = ("feature", "threshold", "value")
        return {
            **{n: np.array([[t[i] for t in p] for p in parts]) for i, n in enumerate(names)},
            "base": factors.mean(axis=0),
            "mean": mean,
            "loadings": loadings,
        }

    def predict(self, shared: State, state: State, x: Floats) -> Floats:
        """All trees of all factors, one level at a time."""
        feature, threshold, value = state["feature"], state["threshold"], state["value"]
        factor, tree = np.indices(feature.shape[:2])
        node = np.zeros((len(x), *feature.shape[:2]), dtype=np.int64)
        row = np.arange(len(x))[:, None, None]
        for _ in range(self.depth):
            right = x[row, feature[factor, tree, node]] > threshold[factor, tree, node]
            node = 2 * node + 1 + right
        leaves = value[factor, tree, node - feature.shape[2]].sum(axis=2)
        factors = state["base"] + self.learning_rate * leaves
        return np.asarray(state["mean"] + factors @ state["loadings"].T)

    def _complete(self, tree: Any) -> tuple[NDArray[np.int64], Floats, Floats]:
        """A tree as a complete one: a leaf above the last level sends everything left."""
        inner = 2**self.depth - 1
        feature = np.zeros(inner, dtype=np.int64)
        threshold = np.full(inner, np.inf)
        of = np.zeros(2 * inner + 1, dtype=np.int64)
        for node in range(inner):
            at = of[node]
            leaf = tree.children_left[at] < 0
            if not leaf:
                feature[node], threshold[node] = tree.feature[at], tree.threshold[at]
            of[2 * node + 1] = at if leaf else tree.children_left[at]
            of[2 * node + 2] = at if leaf else tree.children_right[at]
        return feature, threshold, tree.value[of[inner:], 0, 0]
