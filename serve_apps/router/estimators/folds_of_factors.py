"""The low-rank scorers of all folds at once, laid out so that a single prompt takes little time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from serve_apps.router.estimators.kinds import PREFIX
from serve_apps.router.estimators.rows import kernel_ridge, product
from serve_apps.router.estimators.scorer import Floats, State


class FoldsOfFactors:
    """Features to ``[folds, prompts, models]``; states as `LowRankScorer.fit` gives them.

    All folds share the landmarks, and those that chose the same shape of the kernel share the
    kernel too; their weights stand side by side.
    """

    def __init__(self, shared: State, states: Sequence[State]) -> None:
        shapes = [tuple(state["shape"].tolist()) for state in states]
        # Outputs of a shape next to each other, so that each kernel is worked out once.
        self._order = sorted(range(len(states)), key=shapes.__getitem__)
        ordered = [states[i] for i in self._order]
        sizes = [state["bias"].size for state in ordered]
        self._kernels = _Kernels(shared, np.repeat([s["shape"] for s in ordered], sizes, axis=0))
        self._weights = np.ascontiguousarray(_side_by_side([s["weights"] for s in ordered]).T)
        self._linear = _side_by_side([state["linear"] for state in ordered])
        self._bias = np.concatenate([state["bias"] for state in ordered])
        self._ends = np.cumsum(sizes)
        self._kernels.require(self._weights, self._linear, self._bias)
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
        together = self._kernels(x, self._weights, self._linear, self._bias)
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


class _Kernels:
    """Landmarks as `rows.kernel_ridge` takes them, without blocks of columns that count nothing."""

    def __init__(self, shared: State, shapes: Floats) -> None:
        """``shapes`` [outputs, 4]; see `low_rank.SHAPES`."""
        points, blocks = shared["landmarks"], shared["columns"]
        typical = [float(t) for t in shared["typical"]]
        counts = [b for b in range(len(typical)) if shapes[:, 1 + b].any()]
        self._typical = np.array([typical[b] for b in counts])
        self._shapes = np.ascontiguousarray(shapes[:, [0, *(1 + b for b in counts)]])
        of = [np.flatnonzero(blocks == b) for b in counts]
        self._columns = np.array(
            [(place, c) for place, found in enumerate(of) for c in found.tolist()], dtype=np.int64
        ).reshape(-1, 2)
        self._dimensions = blocks.size
        scale = np.array([-2 / typical[b] for b in counts])[self._columns[:, 0]]
        self._points = np.ascontiguousarray((points[:, self._columns[:, 1]] * scale).T)
        self._squares = np.array(
            [(points[:, c] ** 2).sum(axis=1) / t for c, t in zip(of, self._typical, strict=True)]
        ).reshape(len(counts), len(points))

    def require(self, weights: Floats, linear: Floats, bias: Floats) -> None:
        """
        Raises:
            ValueError: shapes that do not fit, which compiled code would read past the end of.
        """
        outputs, landmarks = len(self._shapes), self._squares.shape[1]
        found = weights.shape, linear.shape, bias.shape
        expected = (outputs, landmarks), (self._dimensions, outputs), (outputs,)
        if found != expected:
            raise ValueError(f"expected weights, linear and bias of {expected}, found {found}")

    def __call__(self, x: Floats, weights: Floats, linear: Floats, bias: Floats) -> Floats:
        """``[prompts, outputs]``.

        Raises:
            ValueError: rows of another size or type.
        """
        if x.ndim != 2 or x.shape[1] != self._dimensions or x.dtype != np.float64:
            raise ValueError(
                f"expected rows of {self._dimensions} float64, found {x.shape} of {x.dtype}"
            )
        return kernel_ridge(
            np.ascontiguousarray(x),
            self._columns,
            self._points,
            self._squares,
            self._typical,
            self._shapes,
            weights,
            linear,
            bias,
        )


def _side_by_side(weights: Sequence[Floats]) -> Floats:
    return np.ascontiguousarray(np.concatenate(weights, axis=1), dtype=np.float64)
