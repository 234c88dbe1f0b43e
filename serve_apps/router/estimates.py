"""The three variation points of a learned router, one protocol each.

A feature extractor turns prompts into vectors, an estimator vectors into what each model is
expected to make of them, and a policy those estimates, prices and load into a choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from serve_apps.router.outcomes import Outcomes
from serve_apps.router.prompts import Prompt

Floats = NDArray[np.float64]
Features = Any
"""``[prompts, dimensions]``: a dense float array or a SciPy CSR matrix."""

Arrays = Mapping[str, NDArray[Any]]
"""The learned state of a part, as plain arrays: what an artefact keeps, and all it can load."""


@dataclass(frozen=True)
class Estimates:
    """What each model of a pool is expected to make of each prompt; ``[prompts, models]``.

    ``quality`` is the calibrated expected score in [0, 1], ``quality_sd`` the uncertainty of
    that expectation (of the estimate, not of a single answer), ``output_tokens`` the expected
    length of the answer.
    """

    models: tuple[str, ...]
    quality: Floats
    quality_sd: Floats
    output_tokens: Floats

    def only(self, models: Sequence[str]) -> Estimates:
        """These models' columns, in this order."""
        if tuple(models) == self.models:
            return self
        at = [self.models.index(m) for m in models]
        return Estimates(
            tuple(models), self.quality[:, at], self.quality_sd[:, at], self.output_tokens[:, at]
        )


class FeatureExtractor(Protocol):
    """Prompts to vectors. Fitted once, then called per request: it must not keep state."""

    name: str

    def fit(self, prompts: Sequence[Prompt]) -> Self:
        """A fitted copy."""
        ...

    def transform(self, prompts: Sequence[Prompt]) -> Features:
        """One row per prompt."""
        ...

    def arrays(self) -> Arrays:
        """Learned state and settings."""
        ...

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """The extractor that `arrays` came from."""
        ...


@runtime_checkable
class ChoosesByOutcomes(Protocol):
    """An extractor with a setting that validation on outcomes chooses, before it is fitted."""

    def chosen(self, prompts: Sequence[Prompt], score: Floats) -> Self:
        """A copy with the setting chosen; ``score`` [prompts, models], NaN where not run."""
        ...


class Estimator(Protocol):
    """Vectors to estimates for every model of the pool it was trained on."""

    name: str

    def fit(self, features: Features, outcomes: Outcomes, rng: np.random.Generator) -> Self:
        """A fitted copy; calibration and shrinkage are part of fitting."""
        ...

    def estimate(self, features: Features) -> Estimates:
        """Estimates for each row."""
        ...

    def arrays(self) -> Arrays:
        """Learned state and settings."""
        ...

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """The estimator that `arrays` came from."""
        ...
