"""The gateway routes by the plan and passes bytes through; its own words are in OpenAI's shape."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.types import Message

from profiler.engine import free_port
from serve_apps import openai_api
from serve_apps.gateway import Gateway, build_app
from serve_apps.replicas import Replica
from tests.plan_builders import group, plan, route
from tests.serve_apps.fake_pool import SSE, Engine, Pool

CHAT = "/v1/chat/completions"
TWIN_GROUPS = plan((group("a", "m1"), group("b", "m1")), (route({"a": 1.0}),))
TWO_MODELS = plan((group("a", "m1"), group("b", "m2")), (route({"a": 1.0}),))


@contextlib.asynccontextmanager
async def gateway_over(*engines: Engine, pool: Pool | None = None) -> AsyncIterator[Gateway]:
    """A gateway whose group ``a`` has these engines as its replicas, in this order."""
    async with contextlib.AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(e.serve()) for e in engines]
        pool = pool or Pool({"a": [Replica(f"r{i}", url) for i, url in enumerate(urls)]})
        gateway = Gateway(pool, TWO_MODELS)
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


def counted(gateway: Gateway, outcome: str, model: str = "m1", group_name: str = "a") -> float:
    labels = {"model": model, "group": group_name, "outcome": outcome}
    return gateway.metrics.registry.get_sample_value("orchestrator_requests_total", labels) or 0.0


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
        first_tokens = gateway.metrics.registry.get_sample_value(
            "orchestrator_time_to_first_token_seconds_count", {"model": "m1", "group": "a"}
        )
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
        assert counted(gateway, "client_error", "none", "none") == 1
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"
    assert answer.json()["error"]["param"] == "model"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"messages": [1]}', b'{"model": null}'])
async def test_a_malformed_body_is_a_400_never_a_500(body: bytes) -> None:
    async with gateway_over(Engine()) as gateway:
        answer = await post(gateway, body)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


async def test_a_body_beyond_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_api, "MAX_BODY_BYTES", 100)
    engine = Engine()
    async with gateway_over(engine) as gateway:
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
    pool = Pool({"a": [Replica("r", "http://x")]})
    async with gateway_over(pool=pool) as gateway:
        partly = await request(gateway, "GET", "/health")
        pool.groups["b"] = [Replica("s", "http://y")]
        fully = await request(gateway, "GET", "/health")
    assert (partly.status_code, partly.json()["ready_replicas"]) == (503, {"a": 1, "b": 0})
    assert fully.status_code == 200


async def test_health_does_without_a_group_whose_model_another_serves() -> None:
    async with gateway_over(pool=Pool({"b": [Replica("r", "http://x")]})) as gateway:
        gateway.configure(TWIN_GROUPS)
        answer = await request(gateway, "GET", "/health")
    assert (answer.status_code, answer.json()["ready_replicas"]) == (200, {"a": 0, "b": 1})


async def test_a_dead_replica_is_replaced_before_the_first_byte() -> None:
    engine = Engine()
    async with gateway_over(engine) as gateway:
        live = gateway.picker.groups["a"]  # type: ignore[attr-defined]
        live.insert(0, Replica("dead", f"http://127.0.0.1:{free_port()}"))
        answer = await post(gateway, chat_body())
        assert gateway.picker.picked == ["dead", "r0"]  # type: ignore[attr-defined]
        assert gateway.picker.held == 0  # type: ignore[attr-defined]
    assert answer.status_code == 200


@pytest.mark.parametrize("content_type", ["application/json", SSE])
async def test_an_answer_cut_before_its_first_byte_is_tried_elsewhere(content_type: str) -> None:
    broken = Engine(chunks=(), cut=True, content_type=content_type)
    good = Engine(chunks=(b"fine",), content_type=content_type)
    async with gateway_over(broken, good) as gateway:
        answer = await post(gateway, chat_body(stream=content_type == SSE))
    assert answer.content == b"fine"
    assert broken.bodies == good.bodies


async def test_two_dead_replicas_are_a_503_in_openais_shape() -> None:
    dead = [Replica(f"d{i}", f"http://127.0.0.1:{free_port()}") for i in range(3)]
    pool = Pool({"a": dead})
    async with gateway_over(pool=pool) as gateway:
        answer = await post(gateway, chat_body())
        assert counted(gateway, "unavailable") == 1
    assert pool.picked == ["d0", "d1"]
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_unavailable")
    assert "retry-after" in answer.headers


async def test_no_replica_is_a_503_and_a_full_group_a_429() -> None:
    async with gateway_over(pool=Pool()) as gateway:
        assert (await post(gateway, chat_body())).status_code == 503
    async with gateway_over(pool=Pool(busy=frozenset("a"))) as gateway:
        answer = await post(gateway, chat_body())
        assert counted(gateway, "overloaded") == 1
    assert (answer.status_code, answer.json()["error"]["type"]) == (429, "rate_limit_error")


def dead(name: str) -> Replica:
    return Replica(name, f"http://127.0.0.1:{free_port()}")


@pytest.mark.parametrize("first", ["absent", "unreachable", "full"])
async def test_another_group_of_the_model_stands_in(first: str) -> None:
    engine = Engine()
    async with gateway_over(engine) as gateway:
        pool = gateway.picker
        assert isinstance(pool, Pool)
        gateway.configure(TWIN_GROUPS)
        pool.groups = {"b": pool.groups["a"]}
        if first == "unreachable":
            pool.groups["a"] = [dead("d")]
        pool.busy = frozenset("a" if first == "full" else "")
        answer = await post(gateway, chat_body("m1"))
        assert counted(gateway, "ok", group_name="b") == 1
        in_flight = [
            gateway.metrics.registry.get_sample_value(
                "orchestrator_requests_in_flight", {"model": "m1", "group": g}
            )
            for g in "ab"
        ]
    assert answer.status_code == 200
    assert answer.headers["x-orchestrator-group"] == "b"
    assert engine.bodies == [chat_body("m1")]
    assert in_flight == [0, 0]


async def test_auto_that_goes_elsewhere_names_the_model_there() -> None:
    engine = Engine()
    async with gateway_over(engine) as gateway:
        pool = gateway.picker
        assert isinstance(pool, Pool)
        pool.groups = {"b": pool.groups["a"]}
        await post(gateway, chat_body("auto"))
    assert json.loads(engine.bodies[0])["model"] == "m2"


@pytest.mark.parametrize(
    ("busy", "status", "groups"),
    [("ab", 429, "ab"), ("a", 429, "aba"), ("b", 429, "ab"), ("", 503, "ab")],
)
async def test_the_last_resort_is_to_wait_for_a_full_group(
    busy: str, status: int, groups: str
) -> None:
    pool = Pool(busy=frozenset(busy))
    async with gateway_over(pool=pool) as gateway:
        gateway.configure(TWIN_GROUPS)
        answer = await post(gateway, chat_body())
        patient = [wait_s == gateway.queue_timeout_s for _, wait_s in pool.waits]
    assert answer.status_code == status
    assert "".join(g for g, _ in pool.waits) == groups
    assert patient[-1]
    assert not patient[0]


async def test_a_request_that_engines_die_of_is_not_passed_on_for_ever() -> None:
    async with contextlib.AsyncExitStack() as stack:
        engines = [Engine(chunks=(), cut=True) for _ in range(3)]
        urls = [await stack.enter_async_context(e.serve()) for e in engines]
        replicas = [Replica(f"r{i}", url) for i, url in enumerate(urls)]
        pool = Pool({"a": replicas[:2], "b": replicas[2:]})
        async with gateway_over(pool=pool) as gateway:
            gateway.configure(TWIN_GROUPS)
            answer = await post(gateway, chat_body())
    assert answer.status_code == 503
    assert [len(e.bodies) for e in engines] == [1, 1, 0]


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

    def __init__(self, body: bytes) -> None:
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
            "query_string": b"", "headers": [], "root_path": "", "scheme": "http",
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
        assert gateway.picker.held == 1  # type: ignore[attr-defined]
        client.left.set()
        await serving
        await engine.client_left.wait()
        assert gateway.picker.held == 0  # type: ignore[attr-defined]
        assert counted(gateway, "cancelled") == 1
        in_flight = gateway.metrics.registry.get_sample_value(
            "orchestrator_requests_in_flight", {"model": "m1", "group": "a"}
        )
        assert in_flight == 0


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


async def test_metrics_are_exposed_with_bounded_labels() -> None:
    async with gateway_over(Engine()) as gateway:
        for i in range(5):
            await post(gateway, chat_body(f"made-up-{i}"))
        text = (await request(gateway, "GET", "/metrics")).text
    assert (
        'orchestrator_requests_total{group="none",model="none",outcome="client_error"} 5.0' in text
    )
    assert "made-up" not in text
