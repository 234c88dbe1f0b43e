"""OpenTelemetry traces, made of finished records: while a request runs, only its ids exist.

Spans: the request (server), in it routing, the wait for a slot, and each try at an engine (client).
Names follow the semantic conventions for generative AI. The engine is sent a W3C ``traceparent``
that names the try, so that its own spans join the trace.
"""

from __future__ import annotations

import random
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from serve_apps.seeing.log import redacted
from serve_apps.seeing.record import Attempt, Outcome, RequestRecord
from serve_apps.seeing.settings import SeeingSettings
from serve_apps.seeing.trace_context import attempt_id

SCOPE = "orchestrator.ingress"
NANO = 1_000_000_000
_FAILED = frozenset(
    {
        Outcome.ENGINE_ERROR,
        Outcome.UNAVAILABLE,
        Outcome.OVERLOADED,
        Outcome.TIMEOUT,
        Outcome.CUT,
        Outcome.INTERNAL_ERROR,
    }
)
_OPERATIONS = {"/v1/chat/completions": "chat", "/v1/completions": "text_completion"}
_PROPAGATOR = TraceContextTextMapPropagator()


class Traces:
    """Makes spans of requests that are over."""

    def __init__(self, settings: SeeingSettings, exporter: SpanExporter | None = None) -> None:
        """Spans go to ``exporter``, by default over OTLP/HTTP to where the settings say."""
        self._ids = _GivenIds()
        resource = Resource.create({"service.name": "orchestrator"})
        self._provider = TracerProvider(
            id_generator=self._ids, resource=resource, shutdown_on_exit=False
        )
        sink = exporter or _otlp(settings)
        self._provider.add_span_processor(BatchSpanProcessor(sink))
        self._tracer = self._provider.get_tracer(SCOPE)

    def end(self, record: RequestRecord) -> None:
        """Make the spans of a finished request."""
        if not record.trace_id or record.finished_s is None:
            return
        self._ids.trace_id, self._ids.span_id = record.trace_id, record.span_id
        parent = _PROPAGATOR.extract({"traceparent": record.traceparent})
        span = self._tracer.start_span(
            _name(record),
            context=parent,
            kind=SpanKind.SERVER,
            start_time=_ns(record, record.arrived_s),
            attributes=_attributes(record),
        )
        inside = set_span_in_context(span)
        routed_s = record.arrived_s if record.dispatched_s is None else record.dispatched_s
        routed_s -= record.waited_s
        if record.router_s is not None:
            self._child(record, inside, "route", routed_s - record.router_s, routed_s)
        if record.waited_s > 0:
            self._child(record, inside, "queue", routed_s, routed_s + record.waited_s)
        for i, tried in enumerate(record.tries()):
            self._ids.span_id = attempt_id(record, i)
            self._attempt(record, tried, inside)
        if record.outcome in _FAILED:
            span.set_status(StatusCode.ERROR, str(record.outcome))
        span.end(_ns(record, record.finished_s))

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()

    def flush(self) -> bool:
        """Send what there is now; False when that took too long."""
        return self._provider.force_flush()

    def _child(
        self, record: RequestRecord, inside: Any, name: str, start_s: float, end_s: float
    ) -> None:
        self._ids.span_id = 0
        span = self._tracer.start_span(name, context=inside, start_time=_ns(record, start_s))
        span.end(_ns(record, end_s))

    def _attempt(self, record: RequestRecord, tried: Attempt, inside: Any) -> None:
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": _operation(record),
            "gen_ai.provider.name": "vllm",
            "gen_ai.request.model": record.model,
            "orchestrator.group": tried.group,
            "orchestrator.replica": tried.replica,
            "orchestrator.result": tried.result,
        }
        if tried.status:
            attributes["http.response.status_code"] = tried.status
        if tried.first_byte_s is not None:
            took_s = tried.first_byte_s - tried.started_s
            attributes["gen_ai.response.time_to_first_chunk"] = took_s
        span = self._tracer.start_span(
            _name(record),
            context=inside,
            kind=SpanKind.CLIENT,
            start_time=_ns(record, tried.started_s),
            attributes=attributes,
        )
        if tried.result != "ok":
            span.set_status(StatusCode.ERROR, tried.result)
        span.end(_ns(record, tried.finished_s))


class _GivenIds(IdGenerator):
    """Hands out the ids set before a span is made; a random span id where that is 0."""

    trace_id = 0
    span_id = 0

    def generate_span_id(self) -> int:
        return self.span_id or random.getrandbits(63) + 1

    def generate_trace_id(self) -> int:
        return self.trace_id


def _otlp(settings: SeeingSettings) -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    if settings.otlp_endpoint is None:
        return OTLPSpanExporter()
    return OTLPSpanExporter(endpoint=settings.otlp_endpoint.rstrip("/") + "/v1/traces")


def _ns(record: RequestRecord, at_s: float) -> int:
    """A monotonic time of the record as Unix nanoseconds."""
    return int(record.arrived_unix_s * NANO) + round((at_s - record.arrived_s) * NANO)


def _operation(record: RequestRecord) -> str:
    return _OPERATIONS.get(record.path, record.path or "unknown")


def _name(record: RequestRecord) -> str:
    return f"{_operation(record)} {record.model}".rstrip()


def _attributes(record: RequestRecord) -> dict[str, Any]:
    told = {
        "gen_ai.operation.name": _operation(record),
        "gen_ai.request.model": redacted(record.model_asked),
        "gen_ai.request.stream": record.stream,
        "gen_ai.response.id": record.request_id,
        "gen_ai.response.model": record.model or None,
        "gen_ai.response.time_to_first_chunk": record.ttft_s,
        "gen_ai.usage.input_tokens": record.input_tokens,
        "gen_ai.usage.output_tokens": record.output_tokens,
        "url.path": record.path,
        "http.response.status_code": record.status or None,
        "error.type": str(record.outcome) if record.outcome in _FAILED else None,
        "orchestrator.tenant": record.tenant,
        "orchestrator.group": record.group or None,
        "orchestrator.reason": record.reason or None,
        "orchestrator.outcome": str(record.outcome),
        "orchestrator.refusal": None if record.refusal is None else str(record.refusal),
        "orchestrator.shed": record.shed,
        "orchestrator.predicted.ttft_s": record.predicted_ttft_s,
        "orchestrator.predicted.tpot_s": record.predicted_tpot_s,
        "orchestrator.predicted.quality": record.predicted_quality,
        "orchestrator.predicted.cost_usd": record.predicted_cost_usd,
    }
    return {name: value for name, value in told.items() if value is not None}
