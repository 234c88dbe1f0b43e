"""How long each model's answer will be: ridge regression of log tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from serve_apps.router.estimators.rows import grown

Floats = NDArray[np.float64]
UNKNOWN_TOKENS = 256.0
"""Assumed where no length of any answer was ever recorded."""
RIDGE = 30.0
MOST_LOG = 20.0
"""No answer is predicted to have more than e to this many tokens."""


@dataclass(frozen=True)
class Lengths:
    """exp(bias + x . weights) * smear, within what was seen; ``[models]`` or [dimensions, models].

    ``smear`` makes the mean right: the exponential of a mean logarithm is too small (Duan,
    Smearing Estimate, JASA 1983).
    """

    weights: Floats
    bias: Floats
    smear: Floats
    longest: Floats

    @classmethod
    def fit(cls, x: Floats, tokens: Floats) -> Self:
        """Learn from ``tokens`` [prompts, models], NaN where unknown.

        A model without any recorded length gets the mean length of the others.
        """
        dimensions, models = x.shape[1], tokens.shape[1]
        some = tokens[np.isfinite(tokens)]
        mean = float(some.mean()) if some.size else UNKNOWN_TOKENS
        weights = np.zeros((dimensions, models))
        bias = np.full(models, np.log1p(mean))
        smear, longest = np.ones(models), np.full(models, max(mean, 1.0))
        for m in range(models):
            known = np.isfinite(tokens[:, m])
            if not known.any():
                continue
            centre, target = x[known].mean(axis=0), np.log1p(tokens[known, m])
            xc = x[known] - centre
            gram = xc.T @ xc + RIDGE * np.eye(dimensions)
            weights[:, m] = np.linalg.solve(gram, xc.T @ (target - target.mean()))
            bias[m] = target.mean() - centre @ weights[:, m]
            fitted = np.exp(x[known] @ weights[:, m] + bias[m])
            smear[m] = (tokens[known, m].mean() + 1) / fitted.mean()
            longest[m] = max(float(tokens[known, m].max()), 1.0)
        return cls(weights, bias, smear, longest)

    def __call__(self, x: Floats) -> Floats:
        """Expected output tokens ``[prompts, models]``, at least one."""
        return grown(x, self.weights, self.bias, self.smear, self.longest, MOST_LOG)

    def arrays(self) -> dict[str, Floats]:
        """All four."""
        return dict(vars(self))
