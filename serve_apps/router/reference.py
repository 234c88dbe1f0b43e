"""The prompts an artefact was calibrated on, kept as vectors: what traffic looks like to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve_apps.router.estimates import Arrays, Estimates, Estimator, Features
from serve_apps.router.prompts import Prompt

Floats = NDArray[np.float64]
MOST_PROMPTS = 2000
CHARS_PER_TOKEN = 4
"""A rule of thumb for English text."""


@dataclass(frozen=True)
class Reference:
    """A sample of the training prompts, without their texts.

    ``features`` [prompts, dimensions]; ``quality`` [prompts, models trained first] expected by
    scorers that had not seen the prompt; ``input_tokens`` [prompts], estimated from the text.
    """

    features: Floats
    quality: Floats
    input_tokens: Floats

    def estimates(self, estimator: Estimator) -> Estimates:
        """Estimates of these prompts; models that joined later have the estimator's own."""
        told = estimator.estimate(self.features)
        quality = told.quality.copy()
        quality[:, : self.quality.shape[1]] = self.quality
        return Estimates(told.models, quality, told.quality_sd, told.output_tokens)

    def arrays(self) -> Arrays:
        """All three, in less precision than they were computed in."""
        return {
            "features": self.features.astype(np.float16),
            "quality": self.quality.astype(np.float32),
            "input_tokens": self.input_tokens.astype(np.float32),
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Reference | None:
        """The reference these arrays came from; None where there are none."""
        if not arrays:
            return None
        names = ("features", "quality", "input_tokens")
        return cls(*(np.asarray(arrays[name], dtype=np.float64) for name in names))


def sample(features: Features, estimator: Estimator, prompts: Sequence[Prompt]) -> Reference:
    """A reference from the training data of a fitted estimator, evenly spread over it."""
    at = np.unique(np.linspace(0, len(prompts) - 1, min(len(prompts), MOST_PROMPTS)).astype(int))
    rows = features[at]
    dense = np.asarray(rows.toarray() if hasattr(rows, "toarray") else rows, dtype=np.float64)
    held_out: Floats | None = getattr(estimator, "cross_fitted", None)
    quality = estimator.estimate(rows).quality if held_out is None else held_out[at]
    tokens = np.array([max(1.0, len(prompts[i].text) / CHARS_PER_TOKEN) for i in at])
    return Reference(dense, quality, tokens)
