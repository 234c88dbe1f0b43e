"""llm-d's token-based saturation analyser (V2): tokens in use over tokens that fit.

The default of the Workload Variant Autoscaler since v0.9, beside the percentage-based one of
`orchestrator.autoscale.baselines.saturation`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.simulation.events import GroupState, Observation
from placement.plan import ReplicaGroup

DOWN_OVER_UP = 0.70 / 0.85
"""The published boundary of scaling down over the threshold of scaling up."""
REMEMBERED = 10


@dataclass(frozen=True)
class Variant:
    """One replica group as the analyser knows it; ``tokens`` is a replica's KV cache."""

    usd_per_hour: float
    tokens: float
    compute_tokens: float
    seen: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    @classmethod
    def of(cls, group: ReplicaGroup, input_tokens: float, output_tokens: float) -> Variant:
        """Before a full replica was seen: as many sequences as the engine's limits allow.

        In a step's budget of B tokens, requests of I and O tokens keep B O / (I + O) decoding.
        """
        engine = group.config.engine
        steady = engine.max_num_batched_tokens * output_tokens / (input_tokens + output_tokens)
        running = min(steady, engine.max_num_seqs)
        return cls(
            group.usd_per_hour,
            float(group.profile.kv_capacity_tokens),
            running * (input_tokens + output_tokens / 2),
        )

    def supply(self, kv_full: float) -> float:
        """Tokens that a replica may hold: the lesser of its memory's and its computing's."""
        computing = sum(self.seen) / len(self.seen) if self.seen else self.compute_tokens
        return min(kv_full * self.tokens, computing)


class TokenSaturation:
    """Replicas added are those that ``demand / up`` exceeds the supply by, those starting counted.

    Demand is tokens in use and the prompts that wait; what a replica in use holds while
    ``queue_full`` requests wait for it is what its group can compute (mean of the last ten). Of
    several groups the one of the cheapest supply grows; the dearest shrinks, by what the supply
    exceeds ``demand / down``. One replica stays.
    """

    def __init__(
        self,
        variants: Mapping[str, Variant],
        input_tokens: float,
        *,
        up: float = 0.85,
        kv_full: float = 0.8,
        queue_full: int = 5,
        every_s: float = 30.0,
    ) -> None:
        self._variants = variants
        self._input_tokens = input_tokens
        self._up, self._down = up, up * DOWN_OVER_UP
        self._kv_full, self._queue_full = kv_full, queue_full
        self._every_s = every_s
        self._next_s = 0.0

    def __call__(self, seen: Observation) -> dict[str, int]:
        """The groups that change."""
        if seen.time_s < self._next_s:
            return {}
        self._next_s = seen.time_s + self._every_s
        groups = {n: seen.groups[n] for n in self._variants}
        demand = sum(self._demand(n, g) for n, g in groups.items())
        each = {n: v.supply(self._kv_full) for n, v in self._variants.items()}
        ready = sum(g.ready * each[n] for n, g in groups.items())
        coming = sum(g.starting * each[n] for n, g in groups.items())
        order = sorted(each, key=lambda n: self._variants[n].usd_per_hour / each[n])
        required = demand / self._up - ready - coming
        if required > 0:
            cheapest = order[0]
            more = math.ceil(required / each[cheapest])
            return {cheapest: groups[cheapest].staying + more}
        return self._fewer(groups, each, order, ready - demand / self._down)

    def _fewer(
        self,
        groups: Mapping[str, GroupState],
        each: Mapping[str, float],
        order: list[str],
        spare: float,
    ) -> dict[str, int]:
        found: dict[str, int] = {}
        staying = sum(g.staying for g in groups.values())
        for name in reversed(order):
            count = min(int(spare / each[name]), groups[name].ready, staying - 1)
            if count > 0 and not groups[name].starting:
                found[name] = groups[name].staying - count
                staying -= count
                spare -= count * each[name]
        return found

    def _demand(self, name: str, group: GroupState) -> float:
        variant = self._variants[name]
        for used, waiting in zip(group.kv_used, group.waiting, strict=True):
            if waiting >= self._queue_full:
                variant.seen.append(used * variant.tokens)
        waiting = sum(group.waiting) + group.queued
        return sum(group.kv_used) * variant.tokens + waiting * self._input_tokens
