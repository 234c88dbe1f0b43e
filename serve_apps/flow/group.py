"""A replica group as the dispatcher knows it: its engines, its queue, and how long that takes."""

from __future__ import annotations

import math
import random
from collections.abc import Collection

from placement.plan import ReplicaGroup
from profiler.core import Profile, Slo
from serve_apps.flow.affinity import Cached
from serve_apps.flow.engine import Engine
from serve_apps.flow.law import Law
from serve_apps.flow.nouns import Asker, Replica, Task
from serve_apps.flow.placement import Limits, Placement
from serve_apps.flow.queue import FairQueue
from serve_apps.flow.settings import FlowSettings
from serve_apps.flow.waking import Waking
from serve_apps.router.loads import LoadGrid

LEAST_WAIT_RATIO, MOST_WAIT_RATIO = 0.3, 4.0
WAIT_SMOOTHING = 0.05
MOST_KEPT = 1 / 8
"""Of the requests that a group holds when it is full, so many are kept for who was refused."""
LEAST_JUDGED_S = 0.02
"""Predicted waits below this say nothing about the prediction."""


class Group:
    """Engines that are alike, and the requests that wait for one of them."""

    def __init__(
        self,
        planned: ReplicaGroup,
        slo: Slo,
        settings: FlowSettings,
        rng: random.Random,
    ) -> None:
        self.queue = FairQueue(settings.priority_step)
        self.engines: dict[str, Engine] = {}
        self.open: list[Engine] = []
        """Those in use: neither ejected nor gone."""
        self.in_flight = 0
        """Of all engines that ever were in the group."""
        self.full = False
        """The last request found no room, and nothing has happened since."""
        self._full_at = 0
        """In flight when a request last found no room."""
        self.waking = Waking()
        self.wait_ratio = 1.0
        """Actual over predicted wait, of late."""
        self._reckoned_by: tuple[Profile, Slo] | None = None
        self._settings = settings
        self._placement = Placement(rng, settings.exact_below)
        self.adopt(planned, slo)

    def adopt(self, planned: ReplicaGroup, slo: Slo) -> None:
        """Serve by this plan from now on."""
        self.name = planned.name
        self.model = planned.config.model
        self.full = False
        if self._reckoned_by == (planned.profile, slo):
            return
        self._reckoned_by = planned.profile, slo
        self.slo = slo
        self.law = Law(planned.profile, self._settings.gateways)
        self._grid = LoadGrid(planned.profile, slo)
        self.limits = Limits(
            self._tpot_limit_s(), self._settings.backlog * slo.ttft_s, failure_s=slo.ttft_s
        )
        for engine in self.engines.values():
            engine.adopt(self.law)

    # -- who is there

    def add(self, replica: Replica, now: float, known: Engine | None = None) -> None:
        """One more engine, ready to work; ``known``: as what it was before it left, and is."""
        if known is None:
            known = Engine(replica, self.law, self._settings, now)
        else:
            known.adopt(self.law)
            known.gone = False
        self.engines[replica.id] = known
        self.waking.found(now)
        self.refresh()

    def remove(self, replica_id: str) -> None:
        """An engine that discovery no longer sees; what it has in flight stays counted."""
        self.engines.pop(replica_id).gone = True
        self.refresh()

    def refresh(self) -> None:
        """Note which engines are in use."""
        self.open = [e for e in self.engines.values() if not e.ejected]
        self.full = False

    # -- what a request costs, and when it would be answered

    def holds(self, tokens: float) -> bool:
        """Whether a request of so many tokens fits into a context of this group."""
        return tokens <= self.law.longest

    def load_s(self, prefill_tokens: float, output_tokens: float) -> float:
        """Replica-seconds of a request; where the SLO cannot be kept, of one in a full batch."""
        load = self._grid(prefill_tokens, output_tokens)
        return load if load < math.inf else self.law.work_s(prefill_tokens, output_tokens)

    def wait_s(self, ahead_s: float, load_s: float) -> float:
        """Until a slot is free for one with so much load before it, when all slots are taken."""
        part = max(len(self.open), 1) / self._settings.gateways
        return self.wait_ratio * self._pace() * (ahead_s + load_s) / part

    def _pace(self) -> float:
        """How much slower than by the profile slots come free; waits alone teach it too late."""
        sample = self.open[:4]
        if not any(e.slow for e in sample):
            return 1.0
        return sum(e.tpot_ratio if e.slow else 1.0 for e in sample) / len(sample)

    def ttft_s(self, prefill_tokens: float, now: float) -> float:
        """On a replica as busy as most; on an idle one if there is any."""
        engines = self.open
        if len(engines) > 4:
            if self.in_flight < len(engines):
                return self.law.lone_ttft_s(prefill_tokens)
            engines = engines[:4]
        least_s = math.inf
        for engine in engines:
            ttft_s = engine.ttft_s(prefill_tokens, now)
            least_s = ttft_s if ttft_s < least_s else least_s
        return least_s

    @property
    def busy(self) -> bool:
        """Whether the next request would have to wait for a slot."""
        return self.full or self.queue.count > 0

    @property
    def strain(self) -> float:
        """The wait for a slot over the SLO's TTFT; 0 while there is room."""
        if not (self.full or self.queue.count) or not self.open:
            return 0.0
        return self.wait_s(self.queue.load_s, 0.0) / self.slo.ttft_s

    def admitted_ttft_s(self, prefill_tokens: float) -> float:
        """From the slot to the first token, for one that had to wait for it."""
        law = self.law
        step_s = min(law.step_s(law.max_seqs, law.kv_tokens), self.limits.tpot_s)
        sample = self.open[:4]
        ratio = max((e.ttft_ratio for e in sample), default=1.0)
        lag_s = min((e.lag_s for e in sample), default=0.0)
        own_s = law.prefill_s(prefill_tokens, law.max_seqs // 2, step_s) + step_s
        return law.overhead_s + lag_s + ratio * own_s

    def pick(
        self, task: Task, now: float, cached: Cached | None, avoid: Collection[str] = ()
    ) -> Engine | None:
        """The engine for a request; None when none has room."""
        engines = self.open
        if avoid:
            engines = [e for e in engines if e.replica.id not in avoid]
        engine = self._placement.pick(engines, task, now, self.limits, cached)
        if engine is None and not avoid:
            self.full = True
            self._full_at = self.in_flight
        return engine

    def keeps_from(self, asker: Asker) -> bool:
        """Whether what room there is belongs to others, who were refused with less than this one.

        It is kept for a moment, and never more than a part of it: they may not come back.
        """
        claimed = self.queue.claimed_before(asker) if self.queue.contested else 0
        if not claimed:
            return False
        most = max(1, int(MOST_KEPT * self._full_at))
        return self._full_at - self.in_flight <= min(claimed, most)

    def waited(self, uncorrected_s: float, actual_s: float) -> None:
        """Compare a wait with what it was predicted to be before any correction."""
        if uncorrected_s > LEAST_JUDGED_S:
            seen = actual_s / uncorrected_s
            seen = min(max(seen, LEAST_WAIT_RATIO), MOST_WAIT_RATIO)
            self.wait_ratio += WAIT_SMOOTHING * (seen - self.wait_ratio)

    @property
    def slots(self) -> int:
        """How many requests its open engines hold at most."""
        return self.law.max_seqs * len(self.open)

    def _tpot_limit_s(self) -> float:
        """A limit that not even a lone request keeps limits nothing."""
        lone_s = self.law.lone_tpot_s(1.0)
        return self.slo.tpot_s if lone_s < self.slo.tpot_s else math.inf
