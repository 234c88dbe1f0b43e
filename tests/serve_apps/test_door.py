"""The door refuses what two servers could read differently, and tells at once who has left."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from starlette.types import Receive, Scope, Send

from serve_apps import door as doors
from serve_apps.door import LEFT, PEN, Door

HEAD = b"POST /v1/x HTTP/1.1\r\nHost: pool\r\n"


class App:
    """Answers with the body it got; hangs on ``/hang`` until the client leaves."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.wrote: list[bool] = []
        self.began = asyncio.Event()
        self.left = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["extensions"][LEFT].call = self.left.set
        self.began.set()
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            more = message["more_body"]
        self.bodies.append(body)
        if scope["path"] == "/hang":
            await self.left.wait()
            return
        if scope["path"] == "/wait":
            await self.go.wait()
        if scope["path"] == "/stream":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for more in (True, False):
                await send({"type": "http.response.body", "body": body, "more_body": more})
            return
        headers = [(b"content-length", str(len(body)).encode())]
        if scope["path"] == "/pen":
            told = (b"x-told", body[:1] if body[:1] < b" " else b"1")
            pen = scope["extensions"].get(PEN)
            self.wrote.append(pen is not None and pen.whole(200, [told, *headers], body))
            if self.wrote[-1]:
                return
        if scope["path"] == "/pieces":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            pen = scope["extensions"][PEN]
            self.wrote += [pen.piece(body), pen.piece(b""), pen.piece(body)]
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        if scope["path"] == "/begun":
            pen = scope["extensions"][PEN]
            self.wrote += [pen.begin(200, []), pen.piece(body), pen.last(body), pen.last(body)]
            return
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[tuple[Door, App]]:
    app = App()
    door = Door(app, "127.0.0.1", 0)
    await door.open()
    try:
        yield door, app
    finally:
        await door.close(0.0)


async def say(port: int, *pieces: bytes) -> bytes:
    """All that comes back until the connection ends, or the answer to a good request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0)
        return await asyncio.wait_for(reader.read(), 20)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_a_plain_request_is_answered() -> None:
    async with opened() as (door, app):
        said = await say(door.port, HEAD + b"Connection: close\r\nContent-Length: 2\r\n\r\nhi")
    assert said.startswith(b"HTTP/1.1 200")
    assert said.endswith(b"hi")
    assert app.bodies == [b"hi"]


CLOSE = b"Connection: close\r\n"


def posted(path: bytes, body: bytes, more: bytes = b"") -> bytes:
    head = b"POST %b HTTP/1.1\r\nHost: pool\r\n%bContent-Length: %d\r\n\r\n"
    return head % (path, more, len(body)) + body


async def test_what_the_pen_writes_is_what_messages_would() -> None:
    async with opened() as (door, app):
        by_pen = await say(door.port, posted(b"/pen", b"abc"), posted(b"/pen", b"de", CLOSE))
        by_messages = await say(door.port, posted(b"/x", b"abc"), posted(b"/x", b"de", CLOSE))
    assert app.wrote == [True, True]
    assert by_pen.replace(b"x-told: 1\r\n", b"") == by_messages
    assert by_pen.endswith(b"connection: close\r\n\r\nde")


async def test_the_pen_writes_pieces_as_chunks() -> None:
    async with opened() as (door, app):
        answer = await say(door.port, posted(b"/pieces", b"abc", CLOSE))
    assert app.wrote == [True, False, True]
    assert answer.endswith(b"\r\n\r\n3\r\nabc\r\n3\r\nabc\r\n0\r\n\r\n")


async def test_a_stream_by_the_pen_alone_is_what_messages_would() -> None:
    async with opened() as (door, app):
        by_pen = await say(door.port, posted(b"/begun", b"abc"), posted(b"/begun", b"d", CLOSE))
        by_messages = await say(
            door.port, posted(b"/stream", b"abc"), posted(b"/stream", b"d", CLOSE)
        )
    assert app.wrote == [True, True, True, False] * 2
    assert by_pen == by_messages


async def test_a_connection_that_rests_too_long_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KEEP_ALIVE_S", "SWEEP_S"):
        monkeypatch.setattr(doors, name, 0.01)
    async with opened() as (door, app):
        said = await say(door.port, posted(b"/x", b"abc"))
    assert said.endswith(b"\r\n\r\nabc")
    assert app.bodies == [b"abc"]


async def test_the_pen_leaves_to_messages_what_it_must_not_write() -> None:
    async with opened() as (door, app):
        not_a_value = await say(door.port, posted(b"/pen", b"\r\nx: y", CLOSE))
        old = await say(door.port, b"POST /pen HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc")
    assert app.wrote == [False, False]
    assert not_a_value.endswith(b"\r\n\r\n\r\nx: y")
    assert old.endswith(b"\r\n\r\nabc")


async def test_large_bodies_pass_one_after_another() -> None:
    body = b"x" * 300_000
    head = HEAD + b"Content-Length: %d\r\n" % len(body)
    async with opened() as (door, app):
        said = await say(
            door.port, head + b"\r\n" + body, head + b"Connection: close\r\n\r\n" + body
        )
    assert said.count(b"HTTP/1.1 200") == 2
    assert app.bodies == [body, body]


SMUGGLED = b"GET /secret HTTP/1.1\r\nHost: pool\r\n\r\n"
SHAPES: dict[str, bytes] = {
    "length and chunked": b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 0\r\nContent-Length: 37\r\n\r\n",
    "two equal lengths": b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n",
    "a list of lengths": b"Content-Length: 0, 0\r\n\r\n",
    "a signed length": b"Content-Length: +0\r\n\r\n",
    "a negative length": b"Content-Length: -1\r\n\r\n",
    "an endless length": b"Content-Length: 99999999999999999999999\r\n\r\n",
    "chunked twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked, then not": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "an unknown coding": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "coding with a tab": b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    "space before colon": b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "bare line feeds": b"Content-Length: 0\n\n",
    "a folded header": b"X-A: b\r\n c\r\nContent-Length: 0\r\n\r\n",
    "a NUL in a header": b"X-A: b\0c\r\nContent-Length: 0\r\n\r\n",
    "a bare CR in a header": b"X-A: b\rc\r\nContent-Length: 0\r\n\r\n",
    "a chunk without a size": b"Transfer-Encoding: chunked\r\n\r\n\r\nhi\r\n0\r\n\r\n",
    "a chunk of no number": b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhi\r\n0\r\n\r\n",
    "a chunk that is too long": b"Transfer-Encoding: chunked\r\n\r\n1\r\nhi\r\n0\r\n\r\n",
    "a chunk with bare line feed": b"Transfer-Encoding: chunked\r\n\r\n2\nhi\r\n0\r\n\r\n",
    "two hosts": b"Host: other\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
async def test_what_two_servers_could_read_differently_is_refused(shape: str) -> None:
    async with opened() as (door, app):
        said = await say(door.port, HEAD + SHAPES[shape] + SMUGGLED)
    assert said.startswith(b"HTTP/1.1 400")
    assert b'"invalid_http"' in said
    assert said.count(b"HTTP/1.1") == 1
    assert app.bodies == []


@pytest.mark.parametrize(
    "request_line",
    [
        b"POST http://other/v1/x HTTP/1.1\r\nHost: pool\r\n\r\n",
        b"CONNECT other:80 HTTP/1.1\r\nHost: other:80\r\n\r\n",
        b"GET /x HTTP/1.1\r\n\r\n",
        b"GET /x HTTP/9.9\r\nHost: pool\r\n\r\n",
        b"NONSENSE\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
async def test_a_request_line_that_names_no_path_here_is_refused(request_line: bytes) -> None:
    async with opened() as (door, app):
        said = await say(door.port, request_line)
    assert said.startswith(b"HTTP/1.1 400")
    assert app.bodies == []


@pytest.mark.parametrize(
    "head",
    [
        b"".join(b"X-%d: y\r\n" % i for i in range(200)) + b"Content-Length: 0\r\n\r\n",
        b"X-A: " + b"y" * 40_000 + b"\r\nContent-Length: 0\r\n\r\n",
        b"X-A: " + b"y" * 200_000,
    ],
    ids=["many headers", "a long header", "one without end"],
)
async def test_heads_are_bounded(head: bytes) -> None:
    async with opened() as (door, app):
        said = await say(door.port, HEAD + head)
    assert said.startswith(b"HTTP/1.1 431") or said == b""
    assert app.bodies == []


@pytest.mark.parametrize(
    "sent",
    [b"", b"POST /v1/x HT", HEAD + b"X-A: b\r\n", HEAD + b"Content-Length: 5\r\n\r\nhi"],
    ids=["nothing", "half a line", "half a head", "half a body"],
)
async def test_whoever_sends_too_slowly_is_cut_off(
    sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HEAD_TIMEOUT_S", "BODY_TIMEOUT_S", "SWEEP_S"):
        monkeypatch.setattr(doors, name, 0.01)
    async with opened() as (door, app):
        said = await say(door.port, sent)
    assert said.startswith(b"HTTP/1.1 408")
    assert app.bodies == []


async def test_a_client_that_leaves_is_told_of_at_once() -> None:
    async with opened() as (door, app), asyncio.timeout(20):
        _, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(b"GET /hang HTTP/1.1\r\nHost: pool\r\n\r\n")
        await app.began.wait()
        assert not app.left.is_set()
        writer.close()
        await app.left.wait()


async def test_what_is_under_way_is_finished_before_the_door_closes() -> None:
    async with opened() as (door, app), asyncio.timeout(20):
        asked = asyncio.create_task(say(door.port, b"GET /wait HTTP/1.1\r\nHost: pool\r\n\r\n"))
        await app.began.wait()
        closing = asyncio.create_task(door.close(10.0))
        while door.accepting:
            await asyncio.sleep(0)
        with pytest.raises(ConnectionRefusedError):
            await say(door.port, HEAD + b"\r\n")
        app.go.set()
        assert (await asked).startswith(b"HTTP/1.1 200")
        await closing


async def test_two_doors_share_a_port() -> None:
    async with opened() as (first, app):
        second = Door(app, "127.0.0.1", first.port)
        await second.open()
        await first.close(0.0)
        said = await say(second.port, HEAD + b"Connection: close\r\nContent-Length: 0\r\n\r\n")
        await second.close(0.0)
    assert said.startswith(b"HTTP/1.1 200")


async def test_an_upgrade_is_refused_and_its_body_never_taken_for_a_request() -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: %d\r\n\r\n" % len(SMUGGLED)
    async with opened() as (door, app):
        said = await say(door.port, HEAD + upgrade, SMUGGLED)
    assert said.startswith(b"HTTP/1.1 400")
    assert said.count(b"HTTP/1.1 ") == 1
    assert app.bodies == []


async def test_an_old_client_gets_a_stream_without_chunks() -> None:
    async with opened() as (door, _):
        asked = b"POST /stream HTTP/1.0\r\nHost: pool\r\nContent-Length: 3\r\n\r\nabc"
        head, _, body = (await say(door.port, asked)).partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert b"connection: close" in head
    assert body == b"abcabc"
