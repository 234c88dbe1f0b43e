"""Keep the plan's shares inside a class that several models answer, and let the gainers gain.

A class is a cell of the plan: its requests are equal there, and the price LP leaves a class that
is split between models indifferent. Seen one by one they are not equal. Each model gets a bias in
its class, and a request goes to the model of the highest utility + bias; the biases that make the
shares those of the plan give the highest total utility of all assignments with these shares (they
are the duals of a transport problem; for two models: a threshold on the gap in utility).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
ROUNDS = 300
PULL = 0.05
"""What one request owed adds to a model's bias, in typical gaps between models."""
MEMORY = 0.02
LEAST_SCALE = 1e-12


class Balance:
    """Biases of a class's models that follow what each is owed.

    The bias is ``start`` + pull * (share * requests - requests taken). Since utilities are
    bounded, so is what a model can be owed: the realised shares tend to the plan's as 1/n, of
    whatever prompts the traffic consists.
    """

    def __init__(
        self, shares: Mapping[str, float], start: Mapping[str, float], scale: float
    ) -> None:
        """``scale`` is a typical gap in utility between models; it is learned on."""
        total = sum(shares.values())
        self._shares = {m: s / total for m, s in shares.items()}
        self._start = dict(start)
        self._owed = dict.fromkeys(shares, 0.0)
        self._scale = max(scale, LEAST_SCALE)

    def bias(self, model: str) -> float:
        """What to add to the model's utility."""
        return self._start[model] + PULL * self._scale * self._owed[model]

    def took(self, model: str, utilities: Mapping[str, float]) -> None:
        """Note that ``model`` got a request, of which these were the models' utilities."""
        for m, share in self._shares.items():
            self._owed[m] += share
        self._owed[model] -= 1
        levels = sorted((u + self._start[m] for m, u in utilities.items()), reverse=True)
        if len(levels) > 1:
            self._scale += MEMORY * (levels[0] - levels[1] - self._scale)
            self._scale = max(self._scale, LEAST_SCALE)


def starting_biases(utilities: Floats, shares: Floats) -> tuple[Floats, float]:
    """Biases ``[models]`` under which ``utilities`` [prompts, models] split into the shares.

    Subgradient ascent on the dual of the transport problem; also returns the typical gap.
    """
    centred = utilities - utilities.mean(axis=1, keepdims=True)
    bias = -np.median(centred, axis=0)
    gap = float(np.abs(centred - np.median(centred, axis=0)).mean())
    scale = max(gap, LEAST_SCALE)
    wanted = shares / shares.sum()
    for t in range(ROUNDS):
        counts = np.bincount((centred + bias).argmax(axis=1), minlength=len(wanted))
        bias = bias + scale * (wanted - counts / len(centred)) * 8 / (1 + t / 10)
    return bias, scale
