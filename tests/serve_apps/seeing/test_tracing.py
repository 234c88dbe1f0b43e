"""Traces are made of finished records, and join the client's and the engine's."""

import subprocess
import sys

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from serve_apps.seeing.record import Attempt, Outcome
from serve_apps.seeing.seeing import Seeing
from serve_apps.seeing.settings import SeeingSettings
from serve_apps.seeing.tracing import Traces
from tests.seeing_builders import ARRIVED_S, ARRIVED_UNIX_S, record, snapshot

CLIENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE, SPAN = 0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7


@pytest.fixture
def traced():
    """Tell a pool that traces of a request, and get its spans and what the engine was sent."""
    exporter = InMemorySpanExporter()
    made = []

    def run(told, tried=(), **settings):
        chosen = SeeingSettings(**settings)
        traces = Traces(chosen, exporter)
        made.append(traces)
        seeing = Seeing(snapshot, chosen, traces=traces)
        told.tried, sent = [], []
        seeing.started(told)
        for attempt in tried:
            sent.append(seeing.engine_headers(told).get("traceparent"))
            told.tried.append(attempt)
        seeing.finished(told)
        assert traces.flush()
        return {s.name + str(i): s for i, s in enumerate(exporter.get_finished_spans())}, sent

    yield run
    for traces in made:
        traces.close()


def spans_of(found, kind):
    return [s for s in found.values() if s.kind is kind]


def test_a_request_has_spans_for_routing_waiting_and_the_engine(traced):
    found, _ = traced(record(), record().tried)
    (root,) = spans_of(found, SpanKind.SERVER)
    (engine,) = spans_of(found, SpanKind.CLIENT)
    inner = {s.name: s for s in spans_of(found, SpanKind.INTERNAL)}
    assert set(inner) == {"route", "queue"}
    assert all(s.parent.span_id == root.context.span_id for s in (engine, *inner.values()))
    assert root.name == "chat m1"
    assert root.start_time == int(ARRIVED_UNIX_S * 1e9)
    assert root.end_time - root.start_time == pytest.approx(0.5e9, abs=1e3)
    assert engine.start_time - root.start_time == pytest.approx(0.1e9, abs=1e3)
    wait = inner["queue"]
    assert wait.end_time - wait.start_time == pytest.approx(0.05e9, abs=1e3)
    assert inner["route"].end_time == wait.start_time
    assert wait.end_time == engine.start_time


def test_attributes_are_those_of_the_conventions_for_generative_ai(traced):
    found, _ = traced(record(model_asked="sk-abcdefghijkl"), record().tried)
    told = spans_of(found, SpanKind.SERVER)[0].attributes
    assert told["gen_ai.operation.name"] == "chat"
    assert told["gen_ai.response.model"] == "m1"
    assert told["gen_ai.usage.output_tokens"] == 11
    assert told["gen_ai.response.time_to_first_chunk"] == pytest.approx(0.4)
    assert told["gen_ai.request.model"] == "[redacted]"
    known = conventions()
    for span in found.values():
        for name in span.attributes:
            assert not name.startswith("gen_ai.") or name in known, name


def conventions():
    from opentelemetry.semconv._incubating.attributes import gen_ai_attributes

    return {v for k, v in vars(gen_ai_attributes).items() if k.startswith("GEN_AI_")}


def test_it_joins_the_clients_trace_and_the_engine_joins_it(traced):
    found, (sent,) = traced(record(traceparent=CLIENT), record().tried)
    (root,) = spans_of(found, SpanKind.SERVER)
    (engine,) = spans_of(found, SpanKind.CLIENT)
    assert (root.context.trace_id, root.parent.span_id) == (TRACE, SPAN)
    assert sent == f"00-{TRACE:032x}-{engine.context.span_id:016x}-01"


def test_each_try_is_a_span_of_its_own(traced):
    failed = Attempt("a", "a#2", ARRIVED_S, None, ARRIVED_S + 0.02, "unreachable")
    found, sent = traced(record(attempts=2), [failed, *record().tried])
    tries = spans_of(found, SpanKind.CLIENT)
    assert [f"{s.context.span_id:016x}" for s in tries] == [p.split("-")[2] for p in sent]
    assert [s.status.status_code for s in tries] == [StatusCode.ERROR, StatusCode.UNSET]
    assert len({s.context.span_id for s in found.values()}) == len(found)


def test_a_try_that_began_to_answer_ends_with_the_request(traced):
    began = Attempt("a", "a#1", ARRIVED_S + 0.1, None, ARRIVED_S + 0.15, "ok")
    found, _ = traced(record(outcome=Outcome.CUT), [began])
    (engine,) = spans_of(found, SpanKind.CLIENT)
    assert engine.end_time - engine.start_time == pytest.approx(0.4e9, abs=1e3)
    assert engine.attributes["gen_ai.response.time_to_first_chunk"] == pytest.approx(0.3)
    assert engine.status.description == "cut"


def test_a_client_that_wants_no_trace_gets_none(traced):
    parent = CLIENT[:-2] + "00"
    found, (sent,) = traced(record(traceparent=parent), record().tried)
    assert not found
    assert sent == parent


def test_a_share_of_traces_is_kept(traced):
    found, _ = traced(record(traceparent=CLIENT), trace_share=0.5)
    assert not found  # its id is beyond half
    low = f"00-{'0' * 31}1-00f067aa0ba902b7-01"
    found, _ = traced(record(traceparent=low), trace_share=0.5)
    assert found


def test_what_went_wrong_is_an_error(traced):
    found, _ = traced(record(outcome=Outcome.CUT), record().tried)
    (root,) = spans_of(found, SpanKind.SERVER)
    assert root.status.status_code is StatusCode.ERROR
    assert root.attributes["error.type"] == "cut"


@pytest.mark.parametrize("garbage", ["", "00-xyz", CLIENT + "-more", "00-" + "A" * 32, "é" * 55])
def test_garbage_is_not_passed_on_and_starts_no_trace_of_its_own(traced, garbage):
    seeing = Seeing(snapshot, SeeingSettings())
    assert seeing.engine_headers(record(traceparent=garbage)) == {}
    found, (sent,) = traced(record(traceparent=garbage), record().tried)
    assert spans_of(found, SpanKind.SERVER)[0].parent is None
    assert garbage not in sent or not garbage


def test_without_tracing_the_clients_header_is_passed_on():
    seeing, told = Seeing(snapshot, SeeingSettings()), record(traceparent=CLIENT)
    seeing.started(told)
    assert seeing.engine_headers(told) == {"traceparent": CLIENT}
    assert told.trace_id == 0


def test_tracing_is_on_where_an_endpoint_is_given(monkeypatch):
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("OTEL_SDK_DISABLED", raising=False)
    assert not SeeingSettings().traces
    assert SeeingSettings(otlp_endpoint="http://collector:4318").traces
    assert not SeeingSettings(otlp_endpoint="http://collector:4318", trace_share=0).traces
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")
    assert SeeingSettings().traces
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert not SeeingSettings().traces


def test_without_the_library_the_pool_serves_all_the_same(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "serve_apps.seeing.tracing", None)
    seeing = Seeing(snapshot, SeeingSettings(otlp_endpoint="http://collector:4318"))
    seeing.started(told := record())
    seeing.finished(told)
    assert "install llm-orchestrator[otel]" in caplog.text


def test_nothing_of_opentelemetry_is_imported_when_it_is_off():
    code = (
        "import os, sys\n"
        "os.environ.pop('OTEL_EXPORTER_OTLP_ENDPOINT', None)\n"
        "from serve_apps.seeing.seeing import Seeing\n"
        "Seeing(lambda: None)\n"
        "print([m for m in sys.modules if m.startswith('opentelemetry')])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
