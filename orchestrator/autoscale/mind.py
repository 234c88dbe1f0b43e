"""What the autoscaler knows of one model's load, and which fleet it asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.autoscale import economics
from orchestrator.autoscale.economics import Choice, Now, Worth
from orchestrator.autoscale.evidence import Bin, Evidence
from orchestrator.autoscale.forecast import WEIGHTS, Forecaster
from orchestrator.autoscale.forecast import Path as LoadPath
from orchestrator.autoscale.market import Standing
from orchestrator.autoscale.policy import ScalePolicy
from orchestrator.autoscale.pools import Pool
from orchestrator.autoscale.season import Season
from orchestrator.simulation.events import GroupState, Observation

Floats = NDArray[np.float64]
MIX_HALF_LIFE_S = 900.0
STAGES = 10
SHORTEST_STAGE_S = 60.0
ONE_REQUEST = 0.5
"""Counts are spread over buckets and shared between models: the half of one is one."""
BACKLOG_S = 60.0
"""In which requests that wait are to be worked off."""


class Mind:
    """What is known of one pool's load."""

    def __init__(self, pool: Pool, policy: ScalePolicy, season: Season) -> None:
        self.pool = pool
        self._policy = policy
        self.cold_s = np.array([policy.cold_s(n) for n in pool.groups])
        first = float(self.cold_s.max())
        stage = max(first, SHORTEST_STAGE_S)
        self.stages_s = np.array([first] + [stage] * STAGES)
        starts = np.concatenate([[0.0], np.cumsum(self.stages_s)[:-1]])
        self._ahead_s = starts + self.stages_s / 2
        self.forecaster = Forecaster(first, season)
        self.evidence = Evidence()
        self.asked = self.needed_s = 0.0
        self.mix_rps = pool.planned_rps.copy()
        self._index = {name: c for c, name in enumerate(pool.classes)}
        self.last = LoadPath(np.zeros(len(self.stages_s)), np.zeros(31), WEIGHTS, 0.0, 0.0, 0.0)

    @property
    def request_usd(self) -> float:
        """Mean work of a request."""
        total = float(self.mix_rps @ self.pool.share)
        return max(self.pool.work(self.mix_rps) / total, 1e-12) if total > 0 else 1e-12

    def see(self, seen: Observation) -> None:
        """Take in the arrivals, each class's and all their work."""
        counts = np.zeros(len(self.pool.classes))
        for name, count in (seen.arrivals or {}).items():
            if name in self._index:
                counts[self._index[name]] += count
        came, rates = float(counts @ self.pool.share), counts / seen.interval_s
        self.asked += came
        if came > 0:
            self.needed_s = seen.time_s
        gain = 1 - 0.5 ** (seen.interval_s / MIX_HALF_LIFE_S)
        if rates.any():
            self.mix_rps += gain * (rates - self.mix_rps)
        squares = float(counts * self.pool.share @ self.pool.work_usd**2)
        rate = self.evidence.add(Bin(seen.interval_s, self.pool.work(counts), squares))
        if rate is not None:
            self.forecaster.observe(seen.time_s, seen.interval_s, *rate)

    def path(self, seen: Observation, groups: Mapping[str, GroupState]) -> LoadPath:
        """Load by stage; requests that wait are work to be done soon."""
        path = self.forecaster.path(seen.time_s, self._ahead_s)
        waiting = sum(g.queued + sum(g.waiting) for n in self.pool.groups if (g := groups.get(n)))
        if waiting and not self._policy.shedding:
            path.mean[:2] += waiting * self.request_usd / max(BACKLOG_S, self.stages_s[0])
        self.last = path
        return path

    def awake(self, now: Now, time_s: float, limit_usd_per_s: float) -> int | None:
        """The group that keeps one replica where the load alone pays for none, if any.

        A model without replicas refuses whoever asks for it, so the first who does starts the
        cheapest that may be had for no more than the limit. The last one stays until it has idled
        for as long as its start takes: the least regret, as nobody knows who asks next (to stop it
        sooner may cost its start at once, to keep it longer costs more than that).
        """
        here = now.staying > 0
        if here.any():
            self.asked = 0.0
            if now.starting.any():
                self.needed_s = time_s
            if time_s - self.needed_s > float(self.cold_s[here].min()):
                return None
        elif self.asked < ONE_REQUEST:
            return None
        able = self.pool.capacity(self.mix_rps, np.eye(len(here))) > 0
        able &= (here | ~here.any()) & (now.most > 0) & (self.pool.usd_per_s <= limit_usd_per_s)
        prices = np.where(able, self.pool.usd_per_s, np.inf)
        return int(np.argmin(prices)) if able.any() else None

    def choose(self, now: Now, path: LoadPath, factor: float) -> Choice:
        """The fleet to ask for, where a miss is worth so many times what the policy says."""
        policy = self._policy
        worth = Worth(policy.miss_worth * factor, policy.shedding, policy.drain_s)
        return economics.choose(
            self.pool, self.mix_rps, path, self.stages_s, self.cold_s, now, worth
        )

    def state(self) -> dict[str, Any]:
        """All it knows, as plain data."""
        return {
            "forecaster": self.forecaster.state(),
            "mix_rps": self.mix_rps.tolist(),
            "evidence": self.evidence.state(),
            "asked": self.asked,
            "needed_s": self.needed_s,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Know again what `state` gave; KeyError, TypeError or ValueError where it is damaged."""
        evidence = Evidence.restored(state.get("evidence", ()))
        mix_rps = np.array(state["mix_rps"], dtype=float)
        asked, needed_s = float(state.get("asked", 0.0)), float(state.get("needed_s", 0.0))
        self.forecaster.restore(state["forecaster"])
        self.mix_rps, self.evidence = mix_rps, evidence
        self.asked, self.needed_s = asked, needed_s

    def standing(self, wished: Mapping[str, int], out: Sequence[str]) -> Standing:
        """What the load costs with so many replicas of each group, some of them out of stock."""
        worth, path = self._policy.miss_worth, self.last
        busiest = int(np.argmax(path.mean))
        high = path.exceeded(busiest, min(1.0, 1 / worth))
        fleet = np.array([[wished.get(n, 0) for n in self.pool.groups]], dtype=float)
        capacity = float(self.pool.capacity(self.mix_rps, fleet)[0])
        loads, rent = path.loads(busiest), float(fleet[0] @ self.pool.usd_per_s)
        short = (np.maximum(loads - capacity, 0.0) - np.maximum(loads - high, 0.0)) @ path.weights
        return Standing(
            pool=self.pool,
            mix_rps=self.mix_rps,
            high=high,
            usd_per_s=rent + worth * max(0.0, float(short)),
            rent_usd_per_s=rent,
            replicas={n: wished.get(n, 0) for n in self.pool.groups},
            out=tuple(out),
        )
