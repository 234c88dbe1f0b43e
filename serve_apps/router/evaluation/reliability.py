"""Calibration: whether what is predicted with probability p comes true a share p of the time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Bins:
    """A reliability diagram; empty bins are left out."""

    predicted: Floats
    observed: Floats
    count: NDArray[np.int64]


def reliability_bins(predicted: Floats, score: Floats, bins: int = 15) -> Bins:
    """Mean prediction and mean score in bins of equal width over [0, 1]; inputs of one shape."""
    p, y = predicted.ravel(), score.ravel()
    at = np.clip((p * bins).astype(np.int64), 0, bins - 1)
    count = np.bincount(at, minlength=bins)
    kept = count > 0
    mean_p = np.bincount(at, p, bins)[kept] / count[kept]
    mean_y = np.bincount(at, y, bins)[kept] / count[kept]
    return Bins(mean_p, mean_y, count[kept])


def ece(predicted: Floats, score: Floats, bins: int = 15) -> float:
    """Expected calibration error: mean over prompts of |mean prediction - mean score| of its bin.

    Guo et al., On Calibration of Modern Neural Networks (arXiv 1706.04599), section 2, 15 bins.
    """
    found = reliability_bins(predicted, score, bins)
    gap = np.abs(found.predicted - found.observed)
    return float((found.count * gap).sum() / found.count.sum())


def brier(predicted: Floats, score: Floats) -> float:
    """Brier score: the mean squared difference; 0.25 for a coin that is always given 1/2."""
    return float(np.mean((predicted - score) ** 2))
