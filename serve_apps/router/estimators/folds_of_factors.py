"""The low-rank scorers of all folds at once, laid out so that a single prompt takes little time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from serve_apps.router.estimators.kinds import PREFIX
from serve_apps.router.estimators.rows import product
from serve_apps.router.estimators.scorer import Floats, State


class FoldsOfFactors:
    """Features to ``[folds, prompts, models]``; states as `LowRankScorer.fit` gives them.

    All folds share the landmarks, and those that chose the same shape of the kernel share the
    kernel too; their weights stand side by side.
    """

    def __init__(self, shared: State, states: Sequence[State]) -> None:
        shapes = [tuple(state["shape"].tolist()) for state in states]
        # Folds of a shape next to each other, so that each shape fills one run of columns.
        self._order = sorted(range(len(states)), key=shapes.__getitem__)
        ordered = [states[i] for i in self._order]
        columns = shared["columns"]
        self._blocks = [
            _Block(np.flatnonzero(columns == block), shared["landmarks"], float(typical))
            for block, typical in enumerate(shared["typical"])
        ]
        self._kernels = [
            (
                shape,
                _side_by_side(
                    [states[i]["weights"] for i in self._order if shapes[i] == shape],
                ),
            )
            for shape in sorted(set(shapes))
        ]
        self._linear = _side_by_side([state["linear"] for state in ordered])
        self._bias = np.concatenate([state["bias"] for state in ordered])
        self._ends = np.cumsum([state["bias"].size for state in ordered])
        self._loadings, self._mean = self._to_models(states)
        self._kinds = self._of_kinds(states)

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
        near = [block.near(x) for block in self._blocks]
        found = [product(_kernel(near, shape), weights) for shape, weights in self._kernels]
        together = found[0] if len(found) == 1 else np.concatenate(found, axis=1)
        together += product(x, self._linear)
        together += self._bias
        if self._kinds is not None:
            together += self._kinds(x)
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

    def _of_kinds(self, states: Sequence[State]) -> _Kinds | None:
        at = [(place, states[i]) for place, i in enumerate(self._order)]
        knowing = [(place, state) for place, state in at if f"{PREFIX}means" in state]
        return (
            _Kinds(knowing, np.split(np.arange(self._ends[-1]), self._ends[:-1]))
            if knowing
            else None
        )


class _Kinds:
    """What the guessed subjects of a prompt add to each fold's factors; see `kinds`."""

    def __init__(
        self, states: Sequence[tuple[int, State]], columns: Sequence[NDArray[np.int64]]
    ) -> None:
        """``states`` with their places; ``columns``: which of all factors are each place's."""
        self._weights = _side_by_side([state[f"{PREFIX}weights"] for _, state in states])
        self._bias = np.concatenate([state[f"{PREFIX}bias"] for _, state in states])
        sizes = [state[f"{PREFIX}bias"].size for _, state in states]
        self._firsts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        self._sizes = np.array(sizes)
        self._means = np.zeros((sum(sizes), sum(c.size for c in columns)))
        for first, size, (place, state) in zip(self._firsts, sizes, states, strict=True):
            rows = np.arange(first, first + size)
            self._means[np.ix_(rows, columns[place])] = state[f"{PREFIX}means"]

    def __call__(self, x: Floats) -> Floats:
        logs = product(x, self._weights)
        logs += self._bias
        logs -= np.repeat(np.maximum.reduceat(logs, self._firsts, axis=1), self._sizes, axis=1)
        raised = np.exp(logs, out=logs)
        sums = np.add.reduceat(raised, self._firsts, axis=1)
        raised /= np.repeat(sums, self._sizes, axis=1)
        return product(raised, self._means)


class _Block:
    """Distances to the landmarks in some of the columns."""

    def __init__(self, columns: NDArray[np.int64], landmarks: Floats, typical: float) -> None:
        points = landmarks[:, columns]
        self._columns = columns
        self._points = np.ascontiguousarray(points.T, dtype=np.float64) * (-2 / typical)
        self._squares = (points * points).sum(axis=1) / typical
        self._typical = typical

    def near(self, x: Floats) -> Floats:
        """Squared distances ``[prompts, landmarks]``, over the typical one."""
        # Row by row in memory, so that a prompt's sums do not depend on how many there are.
        own = np.ascontiguousarray(x[:, self._columns])
        near = product(own, self._points)
        near += self._squares
        near += (own * own).sum(axis=1, keepdims=True) / self._typical
        return np.maximum(near, 0.0, out=near)


def _kernel(near: Sequence[Floats], shape: Sequence[float]) -> Floats:
    """Weighted sum of the blocks' Gaussian kernels; see `low_rank.SHAPES` for the shape."""
    parts = [w * np.exp(n * (-1 / shape[0])) for n, w in zip(near, shape[1:3], strict=False) if w]
    return parts[0] if len(parts) == 1 else np.asarray(parts[0] + parts[1])


def _side_by_side(weights: Sequence[Floats]) -> Floats:
    return np.ascontiguousarray(np.concatenate(weights, axis=1), dtype=np.float64)
