"""llm-d's Workload Variant Autoscaler: spare KV cache and spare queue, one replica at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from orchestrator.simulation.events import Observation


class Saturation:
    """WVA's percentage-based saturation analyser (v0.7; its `saturation-scaling` config map).

    A replica is saturated at a KV use of ``kv_full`` or ``queue_full`` waiting requests, each the
    maximum of the last minute. Over those that are not, the mean spare KV is ``kv_full`` less the
    use, the mean spare queue likewise. One replica is added where spare KV is under ``kv_spare``
    or spare queue under ``queue_spare``: of the variant whose replicas are cheapest, passing over
    those that still start some. One is dropped, of the dearest variant, where the others, with
    its load spread over them, would still have as much to spare. At least one replica stays, and
    ``minimum`` of each variant.
    """

    def __init__(
        self,
        usd_per_hour: Mapping[str, float],
        *,
        kv_spare: float = 0.1,
        queue_spare: float = 3.0,
        kv_full: float = 0.8,
        queue_full: float = 5.0,
        every_s: float = 30.0,
        window_s: float = 60.0,
        minimum: int = 0,
    ) -> None:
        self._price = usd_per_hour
        self._kv_spare, self._queue_spare = kv_spare, queue_spare
        self._kv_full, self._queue_full = kv_full, queue_full
        self._every_s, self._window_s = every_s, window_s
        self._seen: dict[str, deque[tuple[float, list[tuple[float, float]]]]] = {
            n: deque() for n in usd_per_hour
        }
        self._next_s = 0.0
        self._minimum = minimum

    def __call__(self, seen: Observation) -> dict[str, int]:
        """The variants that change, by one replica in all."""
        for name, samples in self._seen.items():
            group = seen.groups[name]
            pairs = zip(sorted(group.kv_used), sorted(group.waiting), strict=True)
            samples.append((seen.time_s, [(kv, float(q)) for kv, q in pairs]))
            while samples[0][0] <= seen.time_s - self._window_s:
                samples.popleft()
        if seen.time_s < self._next_s:
            return {}
        self._next_s = seen.time_s + self._every_s
        replicas = [r for n in self._seen for r in self._highest(n, seen.groups[n].ready)]
        free = [r for r in replicas if r[0] < self._kv_full and r[1] < self._queue_full]
        kv = sum(r[0] for r in free)
        queue = sum(r[1] for r in free)
        count = len(free)
        if not count or not self._spare(kv / count, queue / count):
            return self._added(seen)
        starting = any(seen.groups[n].starting for n in self._seen)
        others = count - 1
        if not starting and others and self._spare(kv / others, queue / others):
            return self._dropped(seen)
        return {}

    def _highest(self, name: str, ready: int) -> list[tuple[float, float]]:
        """Each ready replica's maxima of the window; replicas are told apart by their rank."""
        rows = [pairs for _, pairs in self._seen[name] if len(pairs) == ready]
        return [
            (max(row[k][0] for row in rows), max(row[k][1] for row in rows)) for k in range(ready)
        ]

    def _spare(self, kv: float, queue: float) -> bool:
        return (
            self._kv_full - kv >= self._kv_spare and self._queue_full - queue >= self._queue_spare
        )

    def _added(self, seen: Observation) -> dict[str, int]:
        idle = [n for n in self._seen if not seen.groups[n].starting]
        if not idle:
            return {}
        name = min(idle, key=lambda n: self._price[n])
        return {name: seen.groups[name].staying + 1}

    def _dropped(self, seen: Observation) -> dict[str, int]:
        there = [n for n in self._seen if seen.groups[n].staying > self._minimum]
        if not there or sum(seen.groups[n].staying for n in self._seen) < 2:
            return {}
        name = max(there, key=lambda n: self._price[n])
        return {name: seen.groups[name].staying - 1}
