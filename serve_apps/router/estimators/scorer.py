"""What every estimator here is made of: a scorer, fitted once per fold, and nothing but arrays.

A scorer predicts raw scores. Calibration, shrinkage, uncertainty and answer lengths are added
around it by `calibrated.CalibratedEstimator`, the same way for all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
State = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Table:
    """Features ``x`` [prompts, dimensions], scores ``y`` [prompts, models] with NaN where a model
    was not run, the ``subject`` of each prompt, and its ``group``: what folds must not part.
    """

    x: Floats
    y: Floats
    subject: NDArray[np.str_]
    group: NDArray[np.int64]

    def rows(self, at: NDArray[np.bool_]) -> Table:
        """A part of the prompts."""
        return Table(self.x[at], self.y[at], self.subject[at], self.group[at])

    def inner_folds(self, folds: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """A fold per prompt, at random by group."""
        _, of = np.unique(self.group, return_inverse=True)
        groups = int(of.max()) + 1
        return np.asarray((rng.permutation(groups) % folds)[of], dtype=np.int64)


class Scorer(ABC):
    """Predicts ``[prompts, models]`` raw scores from dense features ``[prompts, dimensions]``.

    Scorers keep no learned state of their own: it is passed around as arrays, so that whatever
    is learned can be kept in an artefact. Settings are constructor arguments, numbers or text.
    """

    name: ClassVar[str]
    regression: ClassVar[bool] = False
    """Whether raw scores are regressions of scores, which a straight line calibrates."""

    def settings(self) -> dict[str, Any]:
        """Constructor arguments that give this scorer again."""
        return dict(vars(self))

    def prepare(self, x: Floats, rng: np.random.Generator) -> State:
        """What all folds share; must not look at scores."""
        return {}

    @abstractmethod
    def fit(self, shared: State, table: Table, rng: np.random.Generator) -> State:
        """Learn from a table of scores."""

    @abstractmethod
    def predict(self, shared: State, state: State, x: Floats) -> Floats:
        """Raw scores ``[prompts, models]``; calibration may bend them monotonously per model."""

    def predict_all(self, shared: State, states: Sequence[State], x: Floats) -> Floats:
        """``[folds, prompts, models]``."""
        return np.stack([self.predict(shared, state, x) for state in states])

    def predictor(self, shared: State, states: Sequence[State]) -> Callable[[Floats], Floats]:
        """`predict_all` of these; what does not depend on the prompts may be done beforehand."""
        return partial(self.predict_all, shared, states)


def filled(y: Floats) -> Floats:
    """Scores with each model's mean in place of NaN."""
    known = np.isfinite(y)
    mean = np.where(known, y, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return np.where(known, y, mean)


def sigmoid(z: Floats) -> Floats:
    """1 / (1 + e^-z), without overflow."""
    return np.asarray(1 / (1 + np.exp(-np.clip(z, -35, 35))))


def logit(p: Floats, edge: float = 0.01) -> Floats:
    """log(p / (1 - p)), with p kept ``edge`` away from 0 and 1."""
    kept = np.clip(p, edge, 1 - edge)
    return np.asarray(np.log(kept / (1 - kept)))


def logistic_weights(x: Floats, y: Floats, ridge: float) -> tuple[Floats, Floats]:
    """Ridge logistic regressions, one per column of ``y`` (in [0, 1], NaN left out).

    Weights ``[dimensions, columns]`` and biases; a score between 0 and 1 counts as part success
    and part failure. ``ridge`` is the penalty on squared weights.
    """
    from sklearn.linear_model import LogisticRegression

    weights, biases = np.zeros((x.shape[1], y.shape[1])), np.zeros(y.shape[1])
    for m in range(y.shape[1]):
        known = np.isfinite(y[:, m])
        # One prompt's worth of both outcomes keeps an always right model finite.
        target = (y[known, m] * known.sum() + 0.5) / (known.sum() + 1)
        both = np.concatenate([x[known], x[known]])
        label = np.repeat([1, 0], known.sum())
        weight = np.concatenate([target, 1 - target])
        fitted = LogisticRegression(C=1 / ridge, max_iter=200, tol=1e-3).fit(both, label, weight)
        weights[:, m], biases[m] = fitted.coef_[0], fitted.intercept_[0]
    return weights, biases
