"""How much of a replica's time a request takes, quickly: a grid made once, read per request."""

from __future__ import annotations

import math

import numpy as np

from profiler.core import Profile, Slo
from profiler.rates import max_rates

POINTS = 33
LAST = POINTS - 2
"""Of the points, the last that another follows."""


class LoadGrid:
    """Load of one request, in replica-seconds: 1 / the highest rate of its size inside the SLO.

    Between the points of the grid the logarithm of the load is linear in the logarithms of both
    sizes; infinite where the nearest point cannot be served inside the SLO.
    """

    def __init__(self, profile: Profile, slo: Slo) -> None:
        self._longest = profile.max_model_len
        self._step = math.log(max(profile.max_model_len, 2)) / (POINTS - 1)
        sizes = np.exp(self._step * np.arange(POINTS))
        inputs, outputs = (side.ravel() for side in np.meshgrid(sizes, sizes, indexing="ij"))
        rate = max_rates(profile, inputs, outputs, slo).rate_rps
        with np.errstate(divide="ignore"):
            grid = np.where(rate > 0, -np.log(rate), np.inf)
        self._log_load: list[list[float]] = grid.reshape(POINTS, POINTS).tolist()

    def __call__(self, input_tokens: float, output_tokens: float) -> float:
        """Replica-seconds; infinite where the SLO cannot be kept."""
        if input_tokens + output_tokens > self._longest:
            return math.inf
        x = math.log(input_tokens) / self._step if input_tokens > 1 else 0.0
        y = math.log(output_tokens) / self._step if output_tokens > 1 else 0.0
        i, j = int(x), int(y)
        i, j = (i if i < LAST else LAST), (j if j < LAST else LAST)
        u, v = x - i, y - j
        u, v = (u if u < 1.0 else 1.0), (v if v < 1.0 else 1.0)
        low, high = self._log_load[i], self._log_load[i + 1]
        a, b, c, d = low[j], low[j + 1], high[j], high[j + 1]
        if math.inf in (a, b, c, d):
            nearest = (low, high)[u > 0.5][j + (v > 0.5)]
            return math.exp(nearest) if nearest < math.inf else math.inf
        return math.exp((1 - u) * ((1 - v) * a + v * b) + u * ((1 - v) * c + v * d))
