"""A floor from a forecast, and a reaction above it: after NVIDIA Dynamo's SLA planner."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from orchestrator.autoscale.baselines.concurrency import ongoing
from orchestrator.autoscale.baselines.fixed import cheapest
from orchestrator.autoscale.pools import Pool
from orchestrator.simulation.events import Observation


class ForecastFloor:
    """Throughput-based scaling sets a floor, load-based scaling moves one replica at a time above.

    Every ``floor_every_s`` the rate of the next such interval is forecast (here by Holt's linear
    trend; Dynamo offers ARIMA, Prophet and others), and the floor is the cheapest fleet whose
    capacity at the SLO, times ``utilisation``, carries it. Every ``react_every_s`` the load of the
    replicas (in flight, over what they can have in hand inside the SLO: what Dynamo's regression of
    TTFT and ITL answers) decides: over ``utilisation`` one more, of the group that is cheapest and
    has none starting; under ``sensitivity`` of it even with one less, one less of the dearest,
    never below the floor.
    """

    def __init__(
        self,
        pool: Pool,
        width: Mapping[str, float],
        *,
        utilisation: float = 0.8,
        sensitivity: float = 0.8,
        floor_every_s: float = 180.0,
        react_every_s: float = 20.0,
    ) -> None:
        self._pool, self._width = pool, width
        self._utilisation, self._sensitivity = utilisation, sensitivity
        self._floor_every_s, self._react_every_s = floor_every_s, react_every_s
        self._floor = np.zeros(len(pool.groups), dtype=np.int64)
        self._counts = np.zeros(len(pool.classes))
        self._mix = pool.planned_rps
        self._since_s = 0.0
        self._level: float | None = None
        self._trend = 0.0
        self._next_s = 0.0
        self._index = {name: c for c, name in enumerate(pool.classes)}

    def __call__(self, seen: Observation) -> dict[str, int]:
        """Replicas of each group of the pool."""
        for name, count in (seen.arrivals or {}).items():
            if name in self._index:
                self._counts[self._index[name]] += count
        if seen.time_s - self._since_s >= self._floor_every_s:
            self._lay_floor(seen.time_s)
        now = np.array([seen.groups[n].staying for n in self._pool.groups])
        wanted = np.maximum(now, self._floor)
        if seen.time_s >= self._next_s:
            self._next_s = seen.time_s + self._react_every_s
            if (wanted == now).all():
                wanted = np.maximum(self._reacted(seen, now), self._floor)
        return dict(zip(self._pool.groups, wanted.tolist(), strict=True))

    def _lay_floor(self, time_s: float) -> None:
        rates = self._counts / (time_s - self._since_s)
        if rates.any():
            self._mix = rates
        work = self._pool.work(rates)
        if self._level is None:
            self._level = work
        before = self._level
        self._level = before + self._trend + 0.5 * (work - before - self._trend)
        self._trend += 0.3 * (self._level - before - self._trend)
        ahead = max(0.0, self._level + self._trend)
        self._floor = cheapest(self._pool, self._mix, ahead / self._utilisation)
        self._counts[:] = 0
        self._since_s = time_s

    def _reacted(self, seen: Observation, now: np.ndarray) -> np.ndarray:
        groups = [seen.groups[n] for n in self._pool.groups]
        width = np.array([self._width[n] for n in self._pool.groups])
        busy = sum(ongoing(g) for g in groups)
        ready = np.array([g.ready for g in groups])
        wanted = now.copy()
        order = np.argsort(self._pool.usd_per_s)
        if busy > self._utilisation * float(ready @ width):
            idle = [g for g in order if not groups[g].starting]
            if idle and not any(g.starting for g in groups):
                wanted[idle[0]] += 1
            return wanted
        for g in reversed(order.tolist()):
            less = float(ready @ width) - width[g]
            if now[g] > self._floor[g] and not groups[g].starting and less > 0:
                if busy < self._sensitivity * self._utilisation * less:
                    wanted[g] -= 1
                break
        return wanted
