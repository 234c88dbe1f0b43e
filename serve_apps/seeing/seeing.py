"""The one place that is told of requests, and passes it on to whatever shows them."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from placement.plan import Plan
from profiler.core import Slo
from serve_apps.seeing import trace_context
from serve_apps.seeing.explain import explanation
from serve_apps.seeing.journal import Journal
from serve_apps.seeing.live import Live
from serve_apps.seeing.log import RequestLog
from serve_apps.seeing.metrics import Exposition, Metrics
from serve_apps.seeing.record import RequestRecord
from serve_apps.seeing.settings import SeeingSettings
from serve_apps.seeing.snapshot import Snapshot

if TYPE_CHECKING:
    from serve_apps.seeing.tracing import Traces

log = logging.getLogger("orchestrator.seeing")

LONGEST_TICK_S = 60.0
"""A longer gap between ticks was a stall, or a clock that jumped: it is not paid for."""


class Seeing:
    """Told of each request at arrival and at its end; asks for a `Snapshot` when it is looked at.

    Every call is made on one event loop (or thread), so nothing here is locked.
    """

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        settings: SeeingSettings | None = None,
        ingress: str = "",
        clock: Callable[[], float] = time.monotonic,
        traces: Traces | None = None,
    ) -> None:
        """``ingress`` names this process among several; ``traces`` is made by the settings."""
        self.settings = settings or SeeingSettings()
        self.ingress = ingress or socket.gethostname()
        self.open = 0
        self.metrics = Metrics()
        self.journal = Journal(self.settings.journal)
        self._snapshot = snapshot
        self._clock = clock
        self._ticked_s = clock()
        self._live = Live(self.metrics, self.journal)
        self._log = RequestLog(self.settings, lambda: self.metrics.log_dropped.add(()))
        self._exposition = Exposition(
            self.metrics, lambda: (self.snapshot(), self.open, len(self.journal)), self.ingress
        )
        self._traces = traces or _traces(self.settings)

    def configure(self, plan: Plan) -> None:
        """A plan came into force: its models and groups are labels, its SLO is counted against."""
        self.know(
            models=plan.models, groups=[g.name for g in plan.groups], tenants=(), slo=plan.slo
        )

    def know(
        self,
        *,
        models: Iterable[str] = (),
        groups: Iterable[str] = (),
        tenants: Iterable[str] = (),
        slo: Slo | None = None,
    ) -> None:
        """Names that may be labels from now on; any other is counted as "other"."""
        self.metrics.models.know(models)
        self.metrics.groups.know(groups)
        self.metrics.tenants.know(tenants)
        self.metrics.slo = slo or self.metrics.slo

    def started(self, record: RequestRecord) -> None:
        """A request arrived."""
        self.open += 1
        if self._traces is not None:
            trace_context.begin(record, self.settings.trace_share)

    def finished(self, record: RequestRecord) -> None:
        """A request is over, however it ended; ``finished_s`` and ``outcome`` are set."""
        self.open -= 1
        self.metrics.count(record)
        self.journal.add(record)
        self._log.write(record)
        if self._traces is not None:
            self._traces.end(record)

    def engine_headers(self, record: RequestRecord) -> dict[str, str]:
        """What to send to the engine with the next attempt: W3C traceparent, if there is one."""
        if not record.trace_id and not record.traceparent:
            return {}
        parent = trace_context.traceparent(record)
        return {"traceparent": parent} if parent else {}

    def tick(self) -> None:
        """Called about once a second by the ingress: adds up what is sampled (rent over time)."""
        now_s = self._clock()
        elapsed_s, self._ticked_s = now_s - self._ticked_s, now_s
        snapshot = self._snapshot()
        if 0 < elapsed_s <= LONGEST_TICK_S:
            self.metrics.pay(snapshot, elapsed_s)
        self._live.tick(snapshot, now_s)

    def snapshot(self) -> Snapshot:
        """The fleet now."""
        return self._snapshot()

    def render(self) -> tuple[bytes, str]:
        """All metrics in Prometheus's text format, and its content type."""
        return self._exposition.render()

    def look(self) -> dict[str, Any]:
        """What goes on now, ready for JSON."""
        return self._live.look(self._snapshot(), self.open, self.ingress)

    def explain(self, request_id: str) -> dict[str, Any] | None:
        """A request's course, ready for JSON; None when it is not (or no longer) known here."""
        record = self.journal.find(request_id)
        return None if record is None else explanation(record)

    def close(self) -> None:
        """Send what traces are left; blocks for a moment."""
        if self._traces is not None:
            self._traces.close()


def _traces(settings: SeeingSettings) -> Traces | None:
    if not settings.traces:
        return None
    try:
        from serve_apps.seeing.tracing import Traces
    except ImportError as error:
        # The endpoint may be set for a whole cluster: no reason to serve nothing.
        log.warning("no traces: %s; install llm-orchestrator[otel]", error)
        return None
    return Traces(settings)
