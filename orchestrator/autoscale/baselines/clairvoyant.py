"""Who knows what will come: the hindsight-minimal fleet of every interval."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from orchestrator.autoscale.economics import moved
from orchestrator.autoscale.pools import Pool
from orchestrator.simulation.events import Observation

Floats = NDArray[np.float64]
MIX_BINS = 90
MARGIN = 1


class Clairvoyant:
    """The schedule that costs least of all that know every arrival and its true size.

    Time is cut into bins of ``bin_s``; ``rates[b, c]`` are the requests per second of each class
    that do arrive. Dynamic programming over all bins and fleets minimises rent, the rent of each
    cold start, that of draining, and ``miss_worth`` times the work over the fleet's capacity (same
    capacity model, and the same money, as the controller's). Each replica is asked for one cold
    start before the bin that needs it. So with a finite ``miss_worth`` it turns away on purpose
    what is dearest to serve. It is a bound in that model of capacity, not in the simulator, where
    requests differ within a bin.
    """

    def __init__(
        self,
        pool: Pool,
        rates: Floats,
        bin_s: float,
        cold_s: float,
        *,
        miss_worth: float,
        drain_s: float = 30.0,
    ) -> None:
        self._pool, self._bin_s, self._cold_s = pool, bin_s, cold_s
        self._schedule = _schedule(pool, rates, bin_s, cold_s, miss_worth, drain_s)

    @property
    def first(self) -> dict[str, int]:
        """The fleet with which to begin."""
        return dict(zip(self._pool.groups, self._schedule[0].tolist(), strict=True))

    def __call__(self, seen: Observation) -> Mapping[str, int]:
        """What any bin between now and one cold start ahead needs."""
        first = int(seen.time_s / self._bin_s)
        last = int((seen.time_s + self._cold_s + seen.interval_s) / self._bin_s)
        ahead = self._schedule[min(first, len(self._schedule) - 1) : last + 1]
        return dict(zip(self._pool.groups, ahead.max(axis=0).tolist(), strict=True))


def _schedule(
    pool: Pool, rates: Floats, bin_s: float, cold_s: float, miss_worth: float, drain_s: float
) -> NDArray[np.int64]:
    """Replicas ``[bins, groups]``."""
    work = np.array([pool.work(r) for r in rates])
    axes = _axes(pool, rates, work)
    fleets = np.array(list(itertools.product(*axes)), dtype=float)
    shape = tuple(len(a) for a in axes)
    rent = fleets @ pool.usd_per_s
    start, stop = pool.usd_per_s * cold_s, pool.usd_per_s * drain_s
    bins = len(rates)
    costs = np.empty((bins, len(fleets)))
    following = np.zeros(len(fleets))
    capacity = rent
    for b in range(bins - 1, -1, -1):
        if b == bins - 1 or b % MIX_BINS == MIX_BINS - 1:
            mix = rates[max(0, b - MIX_BINS + 1) : b + 1].sum(axis=0)
            capacity = pool.capacity(mix if mix.any() else pool.planned_rps, fleets)
        missed = np.maximum(work[b] - capacity, 0.0)
        costs[b] = bin_s * (rent + miss_worth * missed) + following
        following = moved(costs[b].reshape(shape), axes, start, stop).ravel()
    chosen = np.empty((bins, len(pool.groups)), dtype=np.int64)
    now = fleets[int(np.argmin(costs[0]))]
    for b in range(bins):
        up, down = np.maximum(fleets - now, 0.0), np.maximum(now - fleets, 0.0)
        now = fleets[int(np.argmin(costs[b] + up @ start + down @ stop))]
        chosen[b] = now
    return chosen


def _axes(pool: Pool, rates: Floats, work: Floats) -> list[Floats]:
    mix = rates.sum(axis=0)
    eye = np.eye(len(pool.groups))
    axes = []
    for g in range(len(pool.groups)):
        each = float(pool.capacity(mix, eye[g : g + 1])[0])
        enough = int(np.ceil(float(work.max()) / each)) + MARGIN if each > 0 else 4
        most = int(min(enough, pool.maximum[g], 24))
        axes.append(np.arange(int(pool.minimum[g]), most + 1, dtype=float))
    return axes
