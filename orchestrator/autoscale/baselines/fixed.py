"""A fleet that never changes, and the cheapest one for a load."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from orchestrator.autoscale.pools import Pool
from orchestrator.simulation.events import Observation

Floats = NDArray[np.float64]
MOST = 60


class Fixed:
    """The same replicas all the time."""

    def __init__(self, replicas: Mapping[str, int]) -> None:
        self._replicas = dict(replicas)

    def __call__(self, seen: Observation) -> dict[str, int]:
        """What it was given, of the groups that are there."""
        return {n: c for n, c in self._replicas.items() if n in seen.groups}


def cheapest(pool: Pool, mix_rps: Floats, work: float) -> NDArray[np.int64]:
    """The cheapest fleet of a pool that carries so much work, in dollars per second, in a mix.

    Exact where no group needs more than `MOST` replicas; fleets are tried in order of groups.
    """
    count = len(pool.groups)
    each = np.array([pool.capacity(mix_rps, np.eye(count)[g : g + 1])[0] for g in range(count)])
    most = [
        int(min(m, MOST, np.ceil(work / e) if e > 0 else MOST))
        for m, e in zip(pool.maximum, each, strict=True)
    ]
    spans = [
        np.arange(low, max(low, high) + 1) for low, high in zip(pool.minimum, most, strict=True)
    ]
    grids = np.meshgrid(*spans, indexing="ij")
    fleets = np.stack([g.ravel() for g in grids], axis=1).astype(float)
    enough = pool.capacity(mix_rps, fleets) >= work * (1 - 1e-9)
    cost = np.where(enough, fleets @ pool.usd_per_s, np.inf)
    if not enough.any():
        cost = -fleets.sum(axis=1)  # the largest there is
    found: NDArray[np.int64] = fleets[int(np.argmin(cost))].astype(np.int64)
    return found
