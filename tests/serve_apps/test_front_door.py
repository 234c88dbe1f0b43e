"""Socket, guard and gateway together: what a stranger sends changes nothing behind the door.

Each test speaks to the real listening socket; behind it is an engine that writes down every byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_apps.api import build_app
from serve_apps.door import Door
from serve_apps.flow.nouns import Replica
from serve_apps.gateway import Gateway
from serve_apps.guard.guard import Guard
from serve_apps.guard.settings import GuardSettings
from tests.plan_builders import plan
from tests.serve_apps.guard.guards import House
from tests.serve_apps.test_door import say

CHAT = "/v1/chat/completions"
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


@dataclass
class Listener:
    """Writes down what comes, and answers whatever it is; a canary where nothing may come."""

    heard: list[bytes] = field(default_factory=list)
    port: int = 0
    answer: bytes = ANSWER

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def head(self) -> dict[str, str]:
        """The headers of the only request, by lower-case name."""
        [heard] = self.heard
        lines = heard.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
        return {n.lower(): v for n, v in (line.split(": ", 1) for line in lines)}

    @property
    def body(self) -> Any:
        [heard] = self.heard
        return json.loads(heard.partition(b"\r\n\r\n")[2])

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Listener]:
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield self

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
                self.heard.append(head + await reader.readexactly(length))
                writer.write(self.answer)
        writer.close()


@dataclass
class FrontDoor:
    """A door with its gateway, the engine behind it, and a listener that nobody may call."""

    door: Door
    engine: Listener
    canary: Listener

    async def send(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer."""
        content = b"" if body is None else body if isinstance(body, bytes) else _json(body)
        lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1", "connection: close"]
        lines += [f"content-length: {len(content)}", "content-type: application/json"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        said = await say(self.door.port, "\r\n".join(lines).encode() + b"\r\n\r\n" + content)
        head, _, rest = said.partition(b"\r\n\r\n")
        first, *others = head.decode().split("\r\n")
        told = dict(line.lower().split(": ", 1) for line in others)
        return int(first.split()[1]), told, rest

    async def chat(self, fields: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        return await self.send("POST", CHAT, chat_body() | (fields or {}), **headers)


def _json(body: Any) -> bytes:
    return json.dumps(body).encode()


def chat_body() -> dict[str, Any]:
    return {"model": "m1", "messages": [{"role": "user", "content": "hi"}]}


@contextlib.asynccontextmanager
async def opened(guard: Guard | None = None) -> AsyncIterator[FrontDoor]:
    async with Listener().listening() as engine, Listener().listening() as canary:
        gateway = Gateway(plan(), guard=guard)
        gateway.found([Replica("r", "a", engine.url)])
        door = Door(build_app(gateway), "127.0.0.1", 0)
        await door.open()
        yield FrontDoor(door, engine, canary)
        await door.close(0.0)
        await gateway.close()


EVENT = b"data: " + b"x" * 4000 + b"\n\n"
USAGE = b'data: {"usage": {"completion_tokens": 7}}\n\ndata: [DONE]\n\n'


@pytest.mark.parametrize("events", [1, 4000], ids=["small", "more than buffers hold"])
async def test_a_stream_reaches_a_client_that_reads_late_whole_and_is_counted(events: int) -> None:
    pieces = [EVENT] * events + [USAGE]
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"
    async with Listener(answer=head + chunks).listening() as engine:
        gateway = Gateway(plan())
        gateway.found([Replica("r", "a", engine.url)])
        door = Door(build_app(gateway), "127.0.0.1", 0)
        await door.open()
        body = _json(chat_body() | {"stream": True})
        asked = b"POST %b HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
        said = await say(door.port, asked % (CHAT.encode(), len(body)) + body)
        await door.close(10.0)
        [record] = gateway.seeing.journal.latest(1)
        await gateway.close()
    told, _, rest = said.partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in told
    assert unchunked(rest) == b"".join(pieces)
    assert (record.outcome, record.output_tokens) == ("ok", 7)


def unchunked(said: bytes) -> bytes:
    found = []
    while said != b"0\r\n\r\n":
        size, _, said = said.partition(b"\r\n")
        found.append(said[: int(size, 16)])
        said = said[int(size, 16) + 2 :]
    return b"".join(found)


ENGINES_OWN = (
    "/invocations", "/pooling", "/score", "/rerank", "/tokenize", "/detokenize", "/sleep",
    "/wake_up", "/collective_rpc", "/v1/load_lora_adapter", "/v1/unload_lora_adapter",
    "/v1/embeddings",
    "/v1/responses", "/server_info", "/reset_prefix_cache", "/emulated/fault", "/version", "/ping",
    "/v1/../invocations", "/v1/%2e%2e/invocations", "//invocations", "/v1/chat/completions/",
    "/v1/chat/completions/../../../pooling", "/V1/CHAT/COMPLETIONS", "/v1/chat/completions;x",
    "/v1/chat/completions%2f..%2f..%2f..%2fpooling", "/v1/chat/completions%00/invocations",
)  # fmt: skip


async def test_what_else_an_engine_offers_has_no_way_through() -> None:
    async with opened() as house:
        for path in ENGINES_OWN:
            for method in ("POST", "GET", "PUT", "DELETE"):
                status, _, _ = await house.send(method, path, chat_body())
                assert status in (400, 404, 405), (method, path)
        assert house.engine.heard == []
        assert (await house.send("POST", CHAT + "?path=/invocations", chat_body()))[0] == 200
        assert house.engine.heard[0].startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")


STRANGERS = {
    "x_request_id": "mine", "authorization": "Bearer sk-anything", "cookie": "a=b",
    "x_forwarded_for": "1.1.1.1", "x_forwarded_host": "evil", "forwarded": "for=1.1.1.1",
    "x_real_ip": "1.1.1.1", "x_user_id": "root", "x_tenant": "acme", "x_vllm_priority": "0",
    "x_data_parallel_rank": "3", "x_orchestrator_model": "m2", "x_orchestrator_group": "b",
    "x_original_url": "/invocations", "x_http_method_override": "DELETE", "x_api_key": "k",
    "traceparent": "00-" + "1" * 32 + "-" + "1" * 16 + "-01", "serve_multiplexed_model_id": "m",
}  # fmt: skip


async def test_no_header_of_a_client_reaches_an_engine_and_the_request_id_is_ours() -> None:
    async with opened() as house:
        status, told, _ = await house.chat(**STRANGERS)
        head = house.engine.head
    assert status == 200
    assert head.keys() == {"host", "content-type", "x-request-id", "content-length"}
    assert head["x-request-id"] == told["x-request-id"] != "mine"
    assert head["host"] == f"127.0.0.1:{house.engine.port}"


async def test_no_field_changes_where_a_request_goes() -> None:
    async with opened() as house:
        url = house.canary.url
        dropped = dict.fromkeys(("api_base", "base_url", "url", "api_key", "callbacks"), url)
        nested = {
            "metadata": {"api_base": url, "url": url},
            "extra_body": {"base_url": url, "router": {"endpoint": url}},
            "x_unheard_of": [{"upstream": url}],
            "user": url,
        }
        status, _, _ = await house.chat(dropped | nested)
        assert status == 200
        assert not dropped.keys() & house.engine.body.keys()
        for name in (url, "http://127.0.0.1/", "../../etc/passwd", f"m1@{url}", "m1\r\nhost: x"):
            assert (await house.chat({"model": name}))[0] in (400, 404)
        assert len(house.engine.heard) == 1
        assert house.canary.heard == []


def media(url: str) -> dict[str, Any]:
    parts = [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": url}}]
    return {"messages": [{"role": "user", "content": parts}]}


async def test_templates_and_media_urls_stay_outside_unless_they_are_let_in() -> None:
    async with opened() as house:
        asked = [
            {"chat_template": "{{ 1 }}"},
            {"chat_template_kwargs": {"a": 1}},
            media(house.canary.url + "/cat.png"),
            media("file:///etc/passwd"),
            media("http://169.254.169.254/latest/meta-data"),
        ]
        for fields in asked:
            status, _, body = await house.chat(fields)
            assert (status, json.loads(body)["error"]["type"]) == (400, "invalid_request_error")
        assert house.engine.heard == house.canary.heard == []
    settings = GuardSettings(media_urls=True, fields={"chat_template": "pass"})
    async with opened(Guard(settings)) as house:
        fields = media(house.canary.url + "/cat.png") | {"chat_template": "{{ 1 }}"}
        assert (await house.chat(fields))[0] == 200
        assert house.engine.body["chat_template"] == "{{ 1 }}"
        assert (await house.chat(media("file:///etc/passwd")))[0] == 400
        assert house.canary.heard == []  # it is the engine that would fetch it


SMUGGLED = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
SHAPES = {
    "CL+TE": b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 0\r\nContent-Length: 44\r\n\r\n",
    "bare LF": b"Content-Length: 0\n\n",
    "bad chunk": b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "obs-fold": b"X-A: b\r\n c\r\nContent-Length: 0\r\n\r\n",
    "TE with a space": b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
async def test_smuggling_shapes_end_at_the_door(shape: str) -> None:
    head = f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n".encode()
    async with opened() as house:
        said = await say(house.door.port, head + SHAPES[shape] + SMUGGLED)
        assert said.startswith(b"HTTP/1.1 400")
        assert said.count(b"HTTP/1.1") == 1
        assert house.engine.heard == []


PAGES = ("/metrics", "/orchestrator/live", "/orchestrator/targets/engines",
         "/orchestrator/explain/req_1")  # fmt: skip


async def test_operators_calls_need_their_own_key_and_refuse_foreign_pages(tmp_path: Path) -> None:
    keys = House(tmp_path)
    mine, admin = keys.key("acme"), keys.key("ops", admin=True)
    async with opened(Guard(GuardSettings(keys=str(keys.path)))) as house:
        for page in PAGES:
            found = 404 if "explain" in page else 200
            told = [
                (await house.send("GET", page))[0],
                (await house.send("GET", page, authorization=f"Bearer {mine}"))[0],
                (await house.send("GET", page, authorization=f"Bearer {admin}"))[0],
                (await house.send("GET", page, x_api_key=admin, origin="https://evil.test"))[0],
                (await house.send("GET", page, x_api_key=admin, sec_fetch_site="cross-site"))[0],
            ]
            assert told == [401, 403, found, 403, 403], page
        assert (await house.chat(authorization=f"Bearer {admin}"))[0] == 403
        assert (await house.chat(authorization=f"Bearer {mine}"))[0] == 200


@pytest.mark.parametrize("known", ["sk-1234", "EMPTY", "changeme", "none", "", "orc_a_b"])
async def test_publicly_known_keys_open_nothing(tmp_path: Path, known: str) -> None:
    keys = House(tmp_path)
    keys.key("acme")
    async with opened(Guard(GuardSettings(keys=str(keys.path)))) as house:
        assert (await house.chat(authorization=f"Bearer {known}"))[0] == 401
        assert house.engine.heard == []


async def test_without_keys_other_pages_and_other_names_are_kept_out() -> None:
    async with opened() as house:
        assert (await house.chat(origin="https://evil.test"))[0] == 403
        rebound = (  # a name of its own that points here: the page's origin is the host it calls
            f"POST {CHAT} HTTP/1.1\r\nHost: evil.test\r\nOrigin: http://evil.test\r\n"
            "Content-Type: application/json\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
        )
        assert (await say(house.door.port, rebound.encode())).startswith(b"HTTP/1.1 403")
        assert house.engine.heard == []


async def test_no_key_shows_in_what_an_operator_sees(tmp_path: Path) -> None:
    keys = House(tmp_path)
    mine, admin = keys.key("acme"), keys.key("ops", admin=True)
    async with opened(Guard(GuardSettings(keys=str(keys.path)))) as house:
        _, told, _ = await house.chat({"model": mine}, authorization=f"Bearer {mine}")
        for page in ("/metrics", f"/orchestrator/explain/{told['x-request-id']}", PAGES[1]):
            _, _, text = await house.send("GET", page, authorization=f"Bearer {admin}")
            secret = mine.rpartition("_")[2]
            if page == "/metrics":
                assert b"orchestrator_requests_total" in text
            assert mine.encode() not in text
            assert secret[:12].encode() not in text


GOOD = (
    f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    "Connection: close\r\nContent-Length: %d\r\n\r\n"
).encode()
BODY = _json(chat_body())
CUTS = st.lists(
    st.tuples(st.integers(0, len(GOOD + BODY)), st.integers(0, 3), st.binary(max_size=4)),
    max_size=4,
)


@settings(max_examples=30)
@given(CUTS)
def test_whatever_bytes_come_an_engine_hears_whole_requests_of_ours_or_nothing(
    cuts: list[tuple[int, int, bytes]],
) -> None:
    sent = GOOD % len(BODY) + BODY
    for at, gone, new in cuts:
        sent = sent[:at] + new + sent[at + gone :]
    asyncio.run(_hears_only_whole_requests(sent))


async def _hears_only_whole_requests(sent: bytes) -> None:
    async with opened() as house:
        reader, writer = await asyncio.open_connection("127.0.0.1", house.door.port)
        writer.write(sent)
        writer.write_eof()
        with contextlib.suppress(ConnectionError):
            said = await asyncio.wait_for(reader.read(), 20)
            assert b"HTTP/1.1 5" not in said
        writer.close()
        for heard in house.engine.heard:
            head, _, body = heard.partition(b"\r\n\r\n")
            assert head.startswith(b"POST /v1/c")
            assert head.lower().count(b"content-length") == 1
            assert json.loads(body)["model"] in ("m1", "auto")
