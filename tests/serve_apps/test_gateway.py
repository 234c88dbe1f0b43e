"""The gateway routes by the plan and passes bytes through; its own words are in OpenAI's shape."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import Message

from profiler.engine import free_port
from profiler.errors import InputError
from serve_apps.api import build_app
from serve_apps.flow.nouns import Lease, Replica
from serve_apps.flow.settings import FlowSettings
from serve_apps.gateway import Gateway
from serve_apps.guard.caller import ANONYMOUS
from serve_apps.guard.guard import Guard
from serve_apps.guard.prices import TokenPrice
from serve_apps.guard.settings import BodyLimits, GuardSettings
from serve_apps.router.base import RouteRequest
from tests.plan_builders import group, plan, route
from tests.serve_apps.fake_pool import SSE, Engine
from tests.serve_apps.guard.guards import House

CHAT = "/v1/chat/completions"
TWIN_GROUPS = plan((group("a", "m1"), group("b", "m1")), (route({"a": 1.0}),))
TWO_MODELS = plan((group("a", "m1"), group("b", "m2")), (route({"a": 1.0}),))


@contextlib.asynccontextmanager
async def gateway_over(
    *engines: Engine, guard: Guard | None = None, also: Sequence[Replica] = ()
) -> AsyncIterator[Gateway]:
    """A gateway whose group ``a`` has these engines as its replicas, after those of ``also``."""
    async with contextlib.AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(e.serve()) for e in engines]
        gateway = Gateway(TWO_MODELS, guard=guard)
        gateway.found([*also, *(Replica(f"r{i}", "a", url) for i, url in enumerate(urls))])
        stack.push_async_callback(gateway.close)
        yield gateway


async def request(gateway: Gateway, method: str, path: str, **kwargs: Any) -> httpx.Response:
    transport = httpx.ASGITransport(build_app(gateway))
    async with httpx.AsyncClient(transport=transport, base_url="http://pool") as client:
        return await client.request(method, path, **kwargs)


def chat_body(model: str = "m1", **fields: Any) -> bytes:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]} | fields
    return json.dumps(body, indent=3).encode()  # odd white space shows any re-encoding


async def post(gateway: Gateway, body: bytes, path: str = CHAT, **kwargs: Any) -> httpx.Response:
    return await request(gateway, "POST", path, content=body, **kwargs)


def sample(gateway: Gateway, name: str, **labels: str) -> float:
    """The sum of a metric's samples with these labels."""
    text, _ = gateway.seeing.render()
    return sum(
        found.value
        for family in text_string_to_metric_families(text.decode())
        for found in family.samples
        if found.name == name and labels.items() <= found.labels.items()
    )


def counted(gateway: Gateway, outcome: str, **labels: str) -> float:
    return sample(gateway, "orchestrator_requests_total", outcome=outcome, **labels)


async def test_a_named_model_passes_byte_for_byte_in_both_directions() -> None:
    engine = Engine(chunks=(b'{"odd":   "spacing"}',))
    async with gateway_over(engine) as gateway:
        body = chat_body(unknown_field={"x": 1})
        answer = await post(gateway, body)
    assert answer.content == b'{"odd":   "spacing"}'
    assert engine.bodies == [body]


async def test_auto_is_replaced_by_the_model_of_the_group() -> None:
    engine = Engine()
    async with gateway_over(engine) as gateway:
        answer = await post(gateway, chat_body("auto", seed=5))
    assert json.loads(engine.bodies[0]) == json.loads(chat_body("m1", seed=5))
    assert answer.headers["x-orchestrator-model"] == "m1"
    assert answer.headers["x-orchestrator-group"] == "a"


async def test_a_stream_is_not_re_encoded() -> None:
    chunks = (b'data: {"a":1}\n', b'\ndata:  {"b": 2}\n\n', b"data: [DONE]\n\n")
    engine = Engine(chunks=chunks, content_type=SSE)
    async with gateway_over(engine) as gateway:
        answer = await post(gateway, chat_body(stream=True))
        first_tokens = sample(gateway, "orchestrator_time_to_first_token_seconds_count", group="a")
        assert counted(gateway, "ok") == 1
    assert answer.content == b"".join(chunks)
    assert answer.headers["content-type"].startswith(SSE)
    assert first_tokens == 1


async def test_the_request_id_is_ours_and_reaches_the_engine() -> None:
    engine = Engine()
    async with gateway_over(engine) as gateway:
        answer = await post(gateway, chat_body(), headers={"x-request-id": "the client's"})
    assert answer.headers.get_list("x-request-id") == [engine.headers[0]["x-request-id"]]
    assert answer.headers["x-request-id"].startswith("req_")


async def test_credentials_of_the_client_stay_out_of_the_engine() -> None:
    engine = Engine()
    async with gateway_over(engine) as gateway:
        await post(gateway, chat_body(), headers={"authorization": "Bearer s3cret", "cookie": "c"})
    assert not {"authorization", "cookie"} & {name.lower() for name in engine.headers[0]}


@pytest.mark.parametrize(("status", "outcome"), [(400, "client_error"), (500, "engine_error")])
async def test_an_engines_error_passes_through(status: int, outcome: str) -> None:
    engine = Engine(chunks=(b'{"error": {"message": "too long"}}',), status=status)
    async with gateway_over(engine) as gateway:
        answer = await post(gateway, chat_body())
        assert counted(gateway, outcome) == 1
    assert (answer.status_code, answer.content) == (status, engine.chunks[0])
    assert len(engine.bodies) == 1


async def test_an_unknown_model_is_openais_404() -> None:
    async with gateway_over(Engine()) as gateway:
        answer = await post(gateway, chat_body("m3"))
        assert counted(gateway, "client_error", model="none", group="none") == 1
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"
    assert answer.json()["error"]["param"] == "model"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"messages": [1]}', b'{"model": null}'])
async def test_a_malformed_body_is_a_400_never_a_500(body: bytes) -> None:
    async with gateway_over(Engine()) as gateway:
        answer = await post(gateway, body)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


async def test_a_body_beyond_the_limit_is_refused() -> None:
    guard = Guard(GuardSettings(body=BodyLimits(max_bytes=100)))
    engine = Engine()
    async with gateway_over(engine, guard=guard) as gateway:
        declared = await post(gateway, chat_body(pad="x" * 200))
        lied = await post(gateway, chat_body(pad="x" * 200), headers={"content-length": "5"})
    assert (declared.status_code, lied.status_code) == (413, 413)
    assert engine.bodies == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", CHAT, 405), ("POST", "/v1/models", 405), ("GET", "/nope", 404), ("GET", "/v1", 404)],
)
async def test_unknown_paths_and_methods_have_openais_shape(
    method: str, path: str, status: int
) -> None:
    async with gateway_over(Engine()) as gateway:
        answer = await request(gateway, method, path)
    assert answer.status_code == status
    assert path in answer.json()["error"]["message"]


async def test_models_lists_what_can_be_asked_for() -> None:
    async with gateway_over(Engine()) as gateway:
        listed = (await request(gateway, "GET", "/v1/models")).json()
        one = await request(gateway, "GET", "/v1/models/m2")
        none = await request(gateway, "GET", "/v1/models/m9")
    assert [m["id"] for m in listed["data"]] == ["auto", "m1", "m2"]
    assert one.json()["id"] == "m2"
    assert (none.status_code, none.json()["error"]["code"]) == (404, "model_not_found")


async def test_health_needs_a_replica_of_every_model() -> None:
    async with gateway_over() as gateway:
        gateway.found([Replica("r", "a", "http://127.0.0.1:1")])
        partly = await request(gateway, "GET", "/health")
        gateway.found([Replica(g, g, "http://127.0.0.1:1") for g in "ab"])
        fully = await request(gateway, "GET", "/health")
    assert (partly.status_code, partly.json()["ready_replicas"]) == (503, {"a": 1, "b": 0})
    assert fully.status_code == 200


async def test_health_does_without_a_group_whose_model_another_serves() -> None:
    async with gateway_over() as gateway:
        gateway.configure(TWIN_GROUPS)
        gateway.found([Replica("r", "b", "http://127.0.0.1:1")])
        answer = await request(gateway, "GET", "/health")
    assert (answer.status_code, answer.json()["ready_replicas"]) == (200, {"a": 0, "b": 1})


async def test_ready_once_is_ready_for_good() -> None:
    async with gateway_over() as gateway:
        none = await request(gateway, "GET", "/health/ready")
        gateway.found([Replica(g, g, "http://127.0.0.1:1") for g in "ab"])
        all_there = await request(gateway, "GET", "/health/ready")
        gateway.found([])
        lost = await request(gateway, "GET", "/health/ready")
        health = await request(gateway, "GET", "/health")
    assert [none.status_code, all_there.status_code, lost.status_code] == [503, 200, 200]
    assert health.status_code == 503


async def test_engines_are_shown_their_key_and_none_of_the_clients() -> None:
    engine = Engine()
    async with engine.serve() as url:
        gateway = Gateway(TWO_MODELS, engine_key="between-us")
        gateway.found([Replica("r", "a", url)])
        await post(gateway, chat_body(), headers={"authorization": "Bearer s3cret"})
        await gateway.close()
    assert engine.headers[0].getall("authorization") == ["Bearer between-us"]  # type: ignore[attr-defined]


def test_a_key_that_would_break_out_of_its_header_is_refused() -> None:
    with pytest.raises(InputError, match="engine key"):
        Gateway(engine_key="a\r\nx-evil: 1")


def test_gateways_that_share_engines_send_each_its_part() -> None:
    free = []
    for gateways in (1, 2):
        gateway = Gateway(TWO_MODELS, flow=FlowSettings(gateways=gateways))
        gateway.found([Replica("r", "a", "http://127.0.0.1:1")])
        answers = [
            gateway.dispatcher.try_dispatch(RouteRequest("m1", 100, 10), ANONYMOUS)
            for _ in range(64)
        ]
        free.append(sum(isinstance(a, Lease) for a in answers))
    assert 0 < free[1] <= free[0] / 2 + 1


def dead(name: str, group_name: str = "a") -> Replica:
    return Replica(name, group_name, f"http://127.0.0.1:{free_port()}")


async def test_a_dead_replica_is_replaced_before_the_first_byte() -> None:
    async with gateway_over(Engine(), also=[dead("dead")]) as gateway:
        answers = [await post(gateway, chat_body()) for _ in range(4)]
        assert gateway.dispatcher.in_flight == 0
        assert counted(gateway, "ok") == 4
    assert {a.status_code for a in answers} == {200}


@pytest.mark.parametrize("content_type", ["application/json", SSE])
async def test_an_answer_cut_before_its_first_byte_is_tried_elsewhere(content_type: str) -> None:
    broken = Engine(chunks=(), cut=True, content_type=content_type)
    good = Engine(chunks=(b"fine",), content_type=content_type)
    async with gateway_over(broken, good) as gateway:
        answers = [await post(gateway, chat_body(stream=content_type == SSE)) for _ in range(3)]
    assert [a.content for a in answers] == [b"fine"] * 3
    assert len(broken.bodies) == 1  # the first to be tried, and ejected by it
    assert len(good.bodies) == 3


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_an_engine_that_is_down_is_replaced(status: int) -> None:
    down, good = Engine(status=status), Engine()
    async with gateway_over(down, good) as gateway:
        answers = [await post(gateway, chat_body()) for _ in range(2)]
    assert {a.status_code for a in answers} == {200}


async def test_no_engine_that_can_be_reached_is_a_503_in_openais_shape() -> None:
    async with gateway_over(also=[dead(f"d{i}") for i in range(3)]) as gateway:
        answer = await post(gateway, chat_body())
        assert counted(gateway, "unavailable") == 1
        assert gateway.dispatcher.in_flight == 0
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_unavailable")
    assert "retry-after" in answer.headers


async def test_no_replica_is_a_503_at_once() -> None:
    async with gateway_over() as gateway:
        answer = await post(gateway, chat_body())
    assert (answer.status_code, answer.json()["error"]["type"]) == (503, "server_error")
    assert "retry-after" in answer.headers


@pytest.mark.parametrize("first", ["absent", "unreachable"])
async def test_another_group_of_the_model_stands_in(first: str) -> None:
    engine = Engine()
    async with engine.serve() as url, gateway_over() as gateway:
        gateway.configure(TWIN_GROUPS)
        gateway.found([Replica("r", "b", url), *([dead("d")] if first == "unreachable" else [])])
        answer = await post(gateway, chat_body("m1"))
        assert counted(gateway, "ok", group="b") == 1
        assert gateway.dispatcher.in_flight == 0
    assert answer.status_code == 200
    assert answer.headers["x-orchestrator-group"] == "b"
    assert engine.bodies == [chat_body("m1")]


async def test_auto_that_goes_elsewhere_names_the_model_there() -> None:
    engine = Engine()
    async with engine.serve() as url, gateway_over() as gateway:
        gateway.found([Replica("r", "b", url)])
        await post(gateway, chat_body("auto"))
    assert json.loads(engine.bodies[0])["model"] == "m2"


async def test_a_request_that_engines_die_of_is_not_passed_on_for_ever() -> None:
    engines = [Engine(chunks=(), cut=True) for _ in range(5)]
    async with gateway_over(*engines) as gateway:
        answer = await post(gateway, chat_body())
    assert answer.status_code == 503
    assert sum(len(e.bodies) for e in engines) <= 3


async def test_bad_requests_do_not_keep_an_engine_from_others() -> None:
    engine = Engine(status=400)
    async with gateway_over(engine) as gateway:
        for _ in range(20):
            assert (await post(gateway, chat_body())).status_code == 400
        engine.status = 200
        assert (await post(gateway, chat_body())).status_code == 200


async def test_a_stream_cut_in_the_middle_ends_with_an_error_event() -> None:
    engine = Engine(chunks=(b'data: {"a": 1}\n\n', b'data: {"hal'), cut=True, content_type=SSE)
    async with gateway_over(engine) as gateway:
        answer = await post(gateway, chat_body(stream=True))
        assert counted(gateway, "cut") == 1
    assert answer.content.startswith(b'data: {"a": 1}\n\n')
    last = answer.content.rstrip().rpartition(b"\n\n")[2]
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "stream_cut"
    assert b"[DONE]" not in answer.content
    assert len(engine.bodies) == 1


class Client:
    """Speaks ASGI by hand, so that it can leave when it wants to."""

    def __init__(self, body: bytes, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        self._headers = list(headers)
        self.left = asyncio.Event()
        self.got_body = asyncio.Event()
        self._request: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive(self) -> Message:
        if self._request:
            return self._request.pop()
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            self.got_body.set()

    async def run(self, gateway: Gateway) -> None:
        scope = {
            "type": "http", "method": "POST", "path": CHAT, "raw_path": CHAT.encode(),
            "query_string": b"", "headers": self._headers, "root_path": "", "scheme": "http",
            "server": ("pool", 80), "client": ("c", 1), "http_version": "1.1",
        }  # fmt: skip
        await build_app(gateway)(scope, self.receive, self.send)


@pytest.mark.parametrize(("stream", "hang_after"), [(True, 1), (False, 0)])
async def test_a_client_that_leaves_closes_the_connection_to_the_engine(
    stream: bool, hang_after: int
) -> None:
    engine = Engine(
        chunks=(b"data: 1\n\n",),
        content_type=SSE if stream else "application/json",
        hang_after=hang_after,
    )
    async with gateway_over(engine) as gateway, asyncio.timeout(20):
        client = Client(chat_body(stream=stream))
        serving = asyncio.create_task(client.run(gateway))
        await (client.got_body if stream else engine.started).wait()
        assert gateway.dispatcher.in_flight == 1
        client.left.set()
        await serving
        await engine.client_left.wait()
        assert gateway.dispatcher.in_flight == 0
        assert counted(gateway, "cancelled") == 1
        assert gateway.upstream.connections == 0


async def test_leaving_after_the_last_byte_is_not_a_cancellation() -> None:
    async with gateway_over(Engine()) as gateway, asyncio.timeout(20):
        client = Client(chat_body())
        client.got_body = client.left  # the server reports the end of the connection at once
        await client.run(gateway)
        assert counted(gateway, "ok") == 1


async def test_a_new_plan_routes_from_the_next_request_on() -> None:
    engine = Engine()
    async with gateway_over(engine) as gateway:
        gateway.configure(plan((group("a", "m7"),), (route({"a": 1.0}),)))
        await post(gateway, chat_body("auto"))
    assert json.loads(engine.bodies[0])["model"] == "m7"


async def test_no_name_that_a_client_made_up_becomes_a_label() -> None:
    async with gateway_over(Engine()) as gateway:
        for i in range(5):
            await post(gateway, chat_body(f"made-up-{i}"))
        text = gateway.seeing.render()[0].decode()
        assert counted(gateway, "client_error", model="none") == 5
    assert "made-up" not in text


async def test_only_completions_reach_an_engine() -> None:
    engine = Engine()
    async with gateway_over(engine) as gateway:
        for path in ("/v1/load_lora_adapter", "/invocations", "/pooling", "/v1/chat/completions/"):
            answer = await post(gateway, chat_body(), path)
            assert answer.status_code == 404
    assert engine.bodies == []


async def test_the_engine_is_sent_no_header_of_the_client() -> None:
    engine = Engine()
    sent = {"x-orchestrator-model": "m2", "x-forwarded-for": "1.1.1.1", "x-user-id": "u"}
    async with gateway_over(engine) as gateway:
        await post(gateway, chat_body(), headers=sent)
    assert not sent.keys() & {name.lower() for name in engine.headers[0]}


async def test_tokens_are_counted_from_usage_or_from_events() -> None:
    usage = b'data: {"usage": {"completion_tokens": 7}}\n\ndata: [DONE]\n\n'
    told = Engine(chunks=(b'data: {"a": 1}\n\n', usage), content_type=SSE)
    silent = Engine(chunks=(b"data: 1\n\n", b"data: 2\n\ndata: [DONE]\n\n"), content_type=SSE)
    found = []
    for engine in (told, silent):
        async with gateway_over(engine) as gateway:
            answer = await post(gateway, chat_body(stream=True))
            record = gateway.seeing.journal.find(answer.headers["x-request-id"])
            assert record is not None
            found.append(record.output_tokens)
    assert found == [7, 2]


async def test_a_deadline_that_is_no_number_of_seconds_is_a_400() -> None:
    async with gateway_over(Engine()) as gateway:
        answer = await post(gateway, chat_body(), headers={"x-orchestrator-deadline": "soon"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_value")


def keyed(directory: Path, **limits: Any) -> tuple[Guard, dict[str, str]]:
    """A guard with one key, and the header that names it."""
    house = House(directory)
    key = house.key(**limits)
    return house.guard(), {"authorization": f"Bearer {key}"}


async def test_a_refused_deadline_takes_nothing_of_a_keys_tokens(tmp_path: Path) -> None:
    guard, header = keyed(tmp_path, tokens_per_minute=2000)
    async with gateway_over(Engine(), guard=guard) as gateway:
        for _ in range(20):
            asked = header | {"x-orchestrator-deadline": "0"}
            assert (await post(gateway, chat_body(), headers=asked)).status_code == 400
        good = await post(gateway, chat_body(), headers=header)
    assert good.status_code == 200


async def test_feedback_takes_no_large_body() -> None:
    async with gateway_over() as gateway:
        answer = await request(gateway, "POST", "/v1/feedback", content=b" " * 20_000)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")


async def test_who_leaves_just_before_the_end_pays_for_what_came(tmp_path: Path) -> None:
    prices = {"m1": TokenPrice(input_usd=0.0, output_usd=1.0)}
    house = House(tmp_path)
    key, guard = house.key(budget_usd_per_day=1.0), house.guard(prices=prices)
    header = [(b"authorization", f"Bearer {key}".encode())]
    engine = Engine(chunks=(b"data: 1\n\n" * 5000,), content_type=SSE, hang_after=1)
    async with gateway_over(engine, guard=guard) as gateway, asyncio.timeout(20):
        client = Client(chat_body(stream=True), header)
        serving = asyncio.create_task(client.run(gateway))
        await client.got_body.wait()
        client.left.set()
        await serving
        record = next(gateway.seeing.journal.latest(1))
    assert (record.outcome, record.output_tokens) == ("cancelled", 5000)


async def test_text_that_looks_like_an_event_is_not_counted_as_one() -> None:
    chunks = (b'data: {"a": "data: data: "}\n\n', b"data: [DONE]\n\n")
    async with gateway_over(Engine(chunks=chunks, content_type=SSE)) as gateway:
        answer = await post(gateway, chat_body(stream=True))
        record = gateway.seeing.journal.find(answer.headers["x-request-id"])
    assert record is not None
    assert record.output_tokens == 1


async def test_a_bug_of_ours_is_a_500_in_openais_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret")

    async with gateway_over(Engine()) as gateway:
        monkeypatch.setattr(gateway.dispatcher, "try_dispatch", broken)
        answer = await post(gateway, chat_body())
        assert counted(gateway, "internal_error") == 1
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
    assert "secret" not in answer.text


async def test_a_budget_is_spent_at_the_plans_prices(tmp_path: Path) -> None:
    guard, header = keyed(tmp_path, budget_usd_per_day=1e-9)
    async with gateway_over(Engine(), guard=guard) as gateway:
        first = await post(gateway, chat_body(), headers=header)
        second = await post(gateway, chat_body(), headers=header)
    assert first.status_code == 200
    assert second.json()["error"]["code"] == "insufficient_quota"


async def test_a_tenant_of_the_keys_file_is_a_label(tmp_path: Path) -> None:
    guard, header = keyed(tmp_path)
    async with gateway_over(Engine(), guard=guard) as gateway:
        await post(gateway, chat_body(), headers=header)
        assert sample(gateway, "orchestrator_tenant_requests_total", tenant="acme") == 1


@pytest.mark.parametrize("believed", [True, False])
async def test_a_clients_trace_is_passed_on_where_it_is_believed(believed: bool) -> None:
    parent = f"00-{1:032x}-{2:016x}-01"
    engine = Engine()
    guard = Guard(GuardSettings(trace_headers=believed))
    async with gateway_over(engine, guard=guard) as gateway:
        await post(gateway, chat_body(), headers={"traceparent": parent})
        await post(gateway, chat_body(), headers={"traceparent": "nonsense"})
    assert [h.get("traceparent") for h in engine.headers] == [parent if believed else None, None]
