"""The low-rank scorers of all folds at once, laid out so that a single prompt takes little time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from serve_apps.router.estimators.rows import product
from serve_apps.router.estimators.scorer import Floats, State


class FoldsOfFactors:
    """Features to ``[folds, prompts, models]``; states as `LowRankScorer.fit` gives them.

    All folds share the landmarks, and those that chose the same width of the kernel share the
    kernel too; their weights stand side by side.
    """

    def __init__(self, shared: State, states: Sequence[State]) -> None:
        scales = [float(state["scale"]) for state in states]
        # Folds of a width next to each other, so that each width fills one run of columns.
        self._order = sorted(range(len(states)), key=scales.__getitem__)
        ordered = [states[i] for i in self._order]
        landmarks, typical = shared["landmarks"], float(shared["typical"])
        self._landmarks = np.ascontiguousarray(landmarks.T, dtype=np.float64) * (-2 / typical)
        self._squares = (landmarks * landmarks).sum(axis=1) / typical
        self._typical = typical
        self._kernels = [
            (-1 / scale, _side_by_side([s["weights"] for s in ordered if s["scale"] == scale]))
            for scale in sorted(set(scales))
        ]
        self._linear = _side_by_side([state["linear"] for state in ordered])
        self._bias = np.concatenate([state["bias"] for state in ordered])
        self._ends = np.cumsum([state["bias"].size for state in ordered])
        self._loadings, self._mean = self._to_models(states)

    def __call__(self, x: Floats) -> Floats:
        """Mean and predicted factors times loadings."""
        raw = product(self._together(x), self._loadings)
        raw += self._mean
        folds = len(self._order)
        return raw.reshape(len(x), folds, raw.shape[1] // folds).swapaxes(0, 1)

    def factors(self, x: Floats) -> list[Floats]:
        """Predicted factors ``[prompts, rank]`` of each fold."""
        parts = np.split(self._together(x), self._ends[:-1], axis=1)
        return [parts[self._order.index(i)] for i in range(len(parts))]

    def _together(self, x: Floats) -> Floats:
        """Predicted factors of all folds ``[prompts, folds * rank]``, in their order here."""
        near = product(x, self._landmarks)
        near += self._squares
        near += (x * x).sum(axis=1, keepdims=True) / self._typical
        np.maximum(near, 0.0, out=near)
        found = [product(np.exp(near * to_power), weights) for to_power, weights in self._kernels]
        together = found[0] if len(found) == 1 else np.concatenate(found, axis=1)
        together += product(x, self._linear)
        together += self._bias
        return together

    def _to_models(self, states: Sequence[State]) -> tuple[Floats, Floats]:
        """Every fold's loadings ``[folds * rank, folds * models]``, and means, by given order."""
        models = states[0]["mean"].size
        loadings = np.zeros((int(self._ends[-1]), models * len(states)))
        first = 0
        for i, end in zip(self._order, self._ends.tolist(), strict=True):
            loadings[first:end, i * models : (i + 1) * models] = states[i]["loadings"].T
            first = end
        return loadings, np.concatenate([state["mean"] for state in states])


def _side_by_side(weights: Sequence[Floats]) -> Floats:
    return np.ascontiguousarray(np.concatenate(weights, axis=1), dtype=np.float64)
