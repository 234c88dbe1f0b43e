"""Whether one router is better than another on the same prompts, or merely lucky."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Difference:
    """A lead over a baseline: its value on all prompts, 95 % interval, and P(lead <= 0)."""

    value: float
    low: float
    high: float
    p_not_better: float


def paired_bootstrap(
    lead: Callable[[Rows], float], prompts: int, rng: np.random.Generator, draws: int = 1000
) -> Difference:
    """Resample prompts with replacement, both routers always on the same ones.

    ``lead`` takes positions of prompts and returns router minus baseline there. The interval is
    the percentile interval; draws without a value (NaN) are left out.
    Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapters 13 and 16.
    """
    value = lead(np.arange(prompts))
    drawn = np.array([lead(rng.integers(prompts, size=prompts)) for _ in range(draws)])
    drawn = drawn[np.isfinite(drawn)]
    if not drawn.size:
        return Difference(value, float("nan"), float("nan"), float("nan"))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Difference(value, float(low), float(high), float(np.mean(drawn <= 0)))
