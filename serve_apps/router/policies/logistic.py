"""Ridge logistic regression on a few columns: small enough to need no library at request time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Logistic:
    """P(y = 1 | x) = 1 / (1 + e^-(bias + weights . (x - centre) / scale)); NaN reads as centre.

    ``weights`` ``[d]`` and a scalar ``bias`` for one target, ``[d, k]`` and ``[k]`` for k of them.
    """

    weights: Floats
    bias: Floats
    centre: Floats
    scale: Floats

    def __call__(self, x: Floats) -> Floats:
        """Probabilities ``[n]`` or ``[n, k]`` for rows ``[n, d]``."""
        z = np.nan_to_num((x - self.centre) / self.scale) @ self.weights + self.bias
        return np.asarray(1 / (1 + np.exp(-np.clip(z, -35, 35))))


def fit_logistic(x: Floats, y: Floats, ridge: float = 1.0, steps: int = 30) -> Logistic:
    """Fit by Newton's method; ``y`` in [0, 1] may be fractional, and is shrunk by one prompt.

    ``ridge`` is the weight of the penalty on standardised coefficients; the bias has none.
    """
    known = np.isfinite(x)
    count = np.maximum(known.sum(axis=0), 1)
    centre = np.where(known, x, 0.0).sum(axis=0) / count
    scale = np.sqrt((np.where(known, x - centre, 0.0) ** 2).sum(axis=0) / count)
    scale = np.where(scale > 1e-9, scale, 1.0)
    z = np.column_stack([np.where(known, x - centre, 0.0) / scale, np.ones(len(x))])
    penalty = np.diag([ridge] * x.shape[1] + [1e-6])
    # Half a success and half a failure more keep a one-sided table finite (Jeffreys' prior).
    base = (y.sum() + 0.5) / (y.size + 1)
    beta = np.zeros(z.shape[1])
    beta[-1] = np.log(base / (1 - base))
    for _ in range(steps):
        p = 1 / (1 + np.exp(-np.clip(z @ beta, -35, 35)))
        spread = np.maximum(p * (1 - p), 1e-6)
        gradient = z.T @ (p - y) + penalty @ beta
        step = np.linalg.solve(z.T @ (z * spread[:, None]) + penalty, gradient)
        beta = beta - step
        if np.abs(step).max() < 1e-8:
            break
    return Logistic(beta[:-1], beta[-1], centre, scale)


def side_by_side(models: Sequence[Logistic]) -> Logistic:
    """Models fitted on the same rows as one of several targets."""
    first = models[0]
    weights = np.stack([m.weights for m in models], axis=1)
    return Logistic(weights, np.array([m.bias for m in models]), first.centre, first.scale)


def logit(p: Floats, edge: float = 0.01) -> Floats:
    """log(p / (1 - p)), with p kept ``edge`` away from 0 and 1."""
    kept = np.clip(p, edge, 1 - edge)
    return np.asarray(np.log(kept / (1 - kept)))
