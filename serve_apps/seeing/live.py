"""What goes on now: rates and percentiles of the last minute, the fleet, the last decisions.

A tick a second notes the running totals; a look takes differences of them, as Prometheus would.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from serve_apps.seeing import definitions as d
from serve_apps.seeing.counters import Counter, quantile
from serve_apps.seeing.journal import Journal
from serve_apps.seeing.log import redacted
from serve_apps.seeing.metrics import Metrics, rents
from serve_apps.seeing.record import Outcome, RequestRecord
from serve_apps.seeing.snapshot import GroupNow, ReplicaState, Snapshot

WINDOW_TICKS = 60
RATE_TICKS = 10
HISTORY_TICKS = 300
DECISIONS = 25


@dataclass(frozen=True, slots=True)
class _Totals:
    """Running totals at one tick."""

    at_s: float
    requests: float
    shed: float
    refused: float
    errors: float
    held: float
    met: float
    output_tokens: float
    quality: tuple[float, float]
    ttft: list[float]
    tpot: list[float]
    duration: list[float]
    by_group: dict[str, tuple[float, float]]


@dataclass(slots=True)
class _History:
    """One point per tick for the charts."""

    requests_per_s: deque[float] = field(default_factory=lambda: deque(maxlen=HISTORY_TICKS))
    shed_share: deque[float] = field(default_factory=lambda: deque(maxlen=HISTORY_TICKS))
    ttft_p99_s: deque[float | None] = field(default_factory=lambda: deque(maxlen=HISTORY_TICKS))
    waiting: deque[int] = field(default_factory=lambda: deque(maxlen=HISTORY_TICKS))

    def as_data(self) -> dict[str, list[Any]]:
        """Lists, oldest first."""
        return {name: list(getattr(self, name)) for name in self.__slots__}


class Live:
    """Keeps a minute of totals and five minutes of points."""

    def __init__(self, metrics: Metrics, journal: Journal) -> None:
        self._metrics = metrics
        self._journal = journal
        self._totals: deque[_Totals] = deque(maxlen=WINDOW_TICKS + 1)
        self._history = _History()
        self._started_unix_s = time.time()

    def tick(self, snapshot: Snapshot, now_s: float) -> None:
        """Note where the totals stand."""
        self._totals.append(_totals(self._metrics, now_s))
        recent = self._recent(RATE_TICKS)
        self._history.requests_per_s.append(recent["requests_per_s"] or 0.0)
        self._history.shed_share.append(recent["shed_share"] or 0.0)
        self._history.ttft_p99_s.append(recent["ttft_p99_s"])
        self._history.waiting.append(snapshot.queued)

    def look(self, snapshot: Snapshot, open_: int, ingress: str) -> dict[str, Any]:
        """Everything the page and the terminal show, ready for JSON."""
        minute, recent = self._recent(WINDOW_TICKS), self._recent(RATE_TICKS)
        paid = self._metrics.rent.values
        return {
            "at_unix_s": time.time(),
            "started_unix_s": self._started_unix_s,
            "ingress": ingress,
            "service": snapshot.service,
            "plan": snapshot.plan_digest,
            "router": snapshot.router,
            "slo": {
                "ttft_s": snapshot.ttft_slo_s,
                "tpot_s": snapshot.tpot_slo_s,
                "attainment": snapshot.attainment_slo,
            },
            "now": {
                **minute,
                "requests_per_s": recent["requests_per_s"],
                "output_tokens_per_s": recent["output_tokens_per_s"],
                "open": open_,
                "queued": snapshot.queued,
                "oldest_queued_s": snapshot.oldest_queued_s,
                "retry_budget": snapshot.retry_budget,
                "usd_so_far": sum(paid.values()),
                "usd_per_hour": sum(usd for _, usd in rents(snapshot)),
                "planned_usd_per_hour": snapshot.planned_usd_per_hour,
                "budget_usd": snapshot.budget_usd,
            },
            "groups": [self._group(snapshot, g, recent["by_group"]) for g in snapshot.groups],
            "history": self._history.as_data(),
            "decisions": [_decision(r) for r in self._journal.latest(DECISIONS)],
        }

    def _recent(self, ticks: int) -> dict[str, Any]:
        """Rates and percentiles over the last ticks; None where nothing is known yet."""
        now = self._totals[-1] if self._totals else None
        before = self._totals[max(len(self._totals) - 1 - ticks, 0)] if now else None
        if now is None or before is None or now.at_s <= before.at_s:
            return dict.fromkeys(_FIGURES) | {"by_group": {}}
        elapsed_s, requests = now.at_s - before.at_s, now.requests - before.requests
        held, answers = now.held - before.held, now.quality[0] - before.quality[0]
        shed = now.shed - before.shed + now.refused - before.refused
        ttft = [b - a for a, b in zip(before.ttft, now.ttft, strict=True)]
        tpot = [b - a for a, b in zip(before.tpot, now.tpot, strict=True)]
        duration = [b - a for a, b in zip(before.duration, now.duration, strict=True)]
        return {
            "requests_per_s": requests / elapsed_s,
            "output_tokens_per_s": (now.output_tokens - before.output_tokens) / elapsed_s,
            "shed_share": shed / requests if requests else 0.0,
            "refused_share": (now.refused - before.refused) / requests if requests else 0.0,
            "error_share": (now.errors - before.errors) / requests if requests else 0.0,
            "slo_share": (now.met - before.met) / held if held else None,
            "quality": (now.quality[1] - before.quality[1]) / answers if answers else None,
            "ttft_p50_s": quantile(d.TTFT.buckets, ttft, 0.5),
            "ttft_p99_s": quantile(d.TTFT.buckets, ttft, 0.99),
            "tpot_p50_s": quantile(d.TPOT.buckets, tpot, 0.5),
            "tpot_p99_s": quantile(d.TPOT.buckets, tpot, 0.99),
            "duration_p50_s": quantile(d.DURATION.buckets, duration, 0.5),
            "duration_p99_s": quantile(d.DURATION.buckets, duration, 0.99),
            "by_group": {
                name: [
                    (new - old) / elapsed_s
                    for new, old in zip(at, before.by_group.get(name, (0.0, 0.0)), strict=True)
                ]
                for name, at in now.by_group.items()
            },
        }

    def _group(
        self, snapshot: Snapshot, group: GroupNow, rates: dict[str, list[float]]
    ) -> dict[str, Any]:
        mine = [r for r in snapshot.replicas if r.group == group.name]
        label = self._metrics.groups[group.name]
        requests_per_s, output_tokens_per_s = rates.get(label, (0.0, 0.0))
        return {
            "name": group.name,
            "model": group.model,
            "gpu": group.gpu,
            "wanted": group.wanted,
            "states": {
                str(state): count
                for state in ReplicaState
                if (count := sum(r.state is state for r in mine))
            },
            "ready": sum(r.state is ReplicaState.READY for r in mine),
            "in_flight": sum(r.in_flight for r in mine),
            "queued": group.queued,
            "requests_per_s": requests_per_s,
            "output_tokens_per_s": output_tokens_per_s,
            "price_usd_per_hour": group.price_usd_per_hour,
            "planned_price_usd_per_hour": group.planned_price_usd_per_hour,
            "usd_per_hour": group.usd_per_hour,
            "usd_so_far": self._metrics.rent.values.get((label,), 0.0),
        }


_FIGURES = (
    "requests_per_s", "output_tokens_per_s", "shed_share", "refused_share", "error_share",
    "slo_share", "quality", "ttft_p50_s", "ttft_p99_s", "tpot_p50_s", "tpot_p99_s",
    "duration_p50_s", "duration_p99_s",
)  # fmt: skip
_ERRORS = frozenset(
    {
        Outcome.ENGINE_ERROR,
        Outcome.UNAVAILABLE,
        Outcome.TIMEOUT,
        Outcome.CUT,
        Outcome.INTERNAL_ERROR,
    }
)


def _totals(metrics: Metrics, now_s: float) -> _Totals:
    requests = refused = errors = 0.0
    by_group: dict[str, list[float]] = {}
    for (_, group, outcome, reason), count in metrics.requests.values.items():
        requests += count
        refused += count if reason in d.SHED_REASONS else 0
        errors += count if outcome in _ERRORS else 0
        by_group.setdefault(group, [0.0, 0.0])[0] += count
    output = 0.0
    for (_, group, direction), count in metrics.tokens.values.items():
        if direction == "output":
            output += count
            by_group.setdefault(group, [0.0, 0.0])[1] += count
    quality = metrics.quality.series.values()
    return _Totals(
        at_s=now_s,
        requests=requests,
        shed=_sum(metrics.shed),
        refused=refused,
        errors=errors,
        held=_sum(metrics.slo_requests),
        met=sum(n for (_, met), n in metrics.slo_requests.values.items() if met == "yes"),
        output_tokens=output,
        quality=(sum(q[0] for q in quality), sum(q[1] for q in quality)),
        ttft=metrics.ttft.pooled(),
        tpot=metrics.tpot.pooled(),
        duration=metrics.duration.pooled(),
        by_group={name: (at[0], at[1]) for name, at in by_group.items()},
    )


def _sum(counter: Counter) -> float:
    return sum(counter.values.values())


def _decision(record: RequestRecord) -> dict[str, Any]:
    return {
        "request_id": record.request_id,
        "arrived_unix_s": record.arrived_unix_s,
        "tenant": record.tenant,
        "model_asked": redacted(record.model_asked),
        "model": record.model,
        "group": record.group,
        "reason": record.reason if record.refusal is None else f"refused: {record.refusal}",
        "outcome": str(record.outcome),
        "status": record.status,
        "shed": record.shed,
        "ttft_s": record.ttft_s,
        "predicted_ttft_s": record.predicted_ttft_s,
        "duration_s": record.duration_s,
        "output_tokens": record.output_tokens,
    }
