"""What every estimator here is made of: a scorer, fitted once per fold, and nothing but arrays.

A scorer predicts raw scores. Calibration, shrinkage, uncertainty and answer lengths are added
around it by `calibrated.CalibratedEstimator`, the same way for all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
State = Mapping[str, NDArray[Any]]


class Scorer(ABC):
    """Predicts ``[prompts, models]`` raw scores from dense features ``[prompts, dimensions]``.

    Scorers keep no learned state of their own: it is passed around as arrays, so that whatever
    is learned can be kept in an artefact. Settings are constructor arguments, numbers or text.
    """

    name: ClassVar[str]

    def settings(self) -> dict[str, Any]:
        """Constructor arguments that give this scorer again."""
        return dict(vars(self))

    def prepare(self, x: Floats, rng: np.random.Generator) -> State:  # noqa: ARG002
        """What all folds share; must not look at scores."""
        return {}

    @abstractmethod
    def fit(self, shared: State, x: Floats, y: Floats, rng: np.random.Generator) -> State:
        """Learn from scores ``y`` [prompts, models], NaN where a model was not run."""

    @abstractmethod
    def predict(self, shared: State, state: State, x: Floats) -> Floats:
        """Raw scores ``[prompts, models]``; calibration may bend them monotonously per model."""

    def predict_all(self, shared: State, states: Sequence[State], x: Floats) -> Floats:
        """``[folds, prompts, models]``."""
        return np.stack([self.predict(shared, state, x) for state in states])


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
