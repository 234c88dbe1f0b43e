"""The ingress's own listening socket: uvicorn's HTTP protocol, hardened, on a port that is shared.

What uvicorn leaves to a proxy in front is done here: requests that two servers could read
differently are refused, heads are bounded, slow senders and readers are cut off, and the
application is told at once when a client leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
from collections.abc import Callable, Sequence
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp, Send
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from serve_apps.api_error import ApiError

MOST_HEADERS = 100
MOST_HEAD_BYTES = 32 * 1024
HEAD_TIMEOUT_S = 10.0
"""From a connection's or request's first sign of life to the end of its head."""
BODY_TIMEOUT_S = 30.0
"""Between two pieces of a request's body."""
SEND_TIMEOUT_S = 60.0
"""A client that takes nothing of its answer for so long is gone."""
KEEP_ALIVE_S = 75
BACKLOG = 2048
SWEEP_S = 0.5
"""How often connections are looked at for having taken too long."""
LEFT = "orchestrator.left"
"""Name of the scope's extension that holds a `Left`."""
PEN = "orchestrator.pen"
"""Name of the scope's extension that holds a `Pen`."""
_NEVER = float("inf")
_CHUNKED = b"transfer-encoding: chunked\r\n"
_CLOSE = b"connection: close\r\n"
_NOT_IN_VALUES = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class Left:
    """Calls back when the client leaves before it was answered."""

    __slots__ = ("call",)

    def __init__(self) -> None:
        self.call: Callable[[], object] | None = None


class DoorProtocol(HttpToolsProtocol):
    """One connection. A request that is refused ends it: what follows cannot be trusted."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = True
        self._head_bytes = 0
        self._heads = 0
        self._refused = False
        self._late_s = _NEVER
        self._stuck_s = _NEVER
        self._resting_s = _NEVER

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Of `asyncio.Protocol`."""
        super().connection_made(transport)
        self._late_s = self.loop.time() + HEAD_TIMEOUT_S

    def connection_lost(self, exc: Exception | None) -> None:
        """Of `asyncio.Protocol`; the application is told, if it is at work."""
        busy = [self.cycle, *(cycle for cycle, _ in self.pipeline)]
        self.pipeline.clear()
        super().connection_lost(exc)
        for cycle in busy:
            if cycle is not None and not cycle.response_complete:
                told = cast("Left", cycle.scope["extensions"][LEFT])
                if told.call is not None:
                    told.call()

    def data_received(self, data: bytes) -> None:
        """Of `asyncio.Protocol`."""
        if self._refused:
            return
        self._resting_s = _NEVER
        in_head, heads = self._in_head, self._heads
        super().data_received(data)
        if in_head and self._in_head and self._heads == heads:
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD_BYTES:
                self._refuse(431, f"the head is larger than {MOST_HEAD_BYTES} bytes")

    def pause_writing(self) -> None:
        """Of `asyncio.Protocol`."""
        super().pause_writing()
        self._stuck_s = self.loop.time() + SEND_TIMEOUT_S

    def resume_writing(self) -> None:
        """Of `asyncio.Protocol`."""
        self._stuck_s = _NEVER
        super().resume_writing()

    def on_message_begin(self) -> None:
        """Of httptools."""
        super().on_message_begin()
        self.scope["extensions"] = cast("dict[str, Any]", {LEFT: Left()})
        self._late_s = self.loop.time() + HEAD_TIMEOUT_S

    def on_headers_complete(self) -> None:
        """Of httptools."""
        self._in_head = False
        self._head_bytes = 0
        self._heads += 1
        if self._refused:
            return
        problem = _problem(self.headers, self.url, self.parser.get_http_version())
        if self.parser.should_upgrade():  # httptools would take the body for another protocol
            problem = 400, "no upgrade is taken here; have the client speak plain HTTP/1.1"
        if problem is not None:
            self._refuse(*problem)
            return
        self._late_s = self.loop.time() + BODY_TIMEOUT_S
        super().on_headers_complete()
        if self.scope["http_version"] == "1.0":
            self.cycle.send = _unchunked(self.cycle)  # type: ignore[method-assign,assignment]
        else:
            told = cast("dict[str, Any]", self.scope["extensions"])
            told[PEN] = Pen(self.cycle)

    def on_body(self, body: bytes) -> None:
        """Of httptools."""
        if not self._refused:
            self._late_s = self.loop.time() + BODY_TIMEOUT_S
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Of httptools."""
        self._in_head = True
        self._late_s = _NEVER
        if not self._refused:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Of uvicorn, which sets a timer for each rest; here `sweep` looks for them all."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self._resting_s = self.loop.time() + KEEP_ALIVE_S

    def send_400_response(self, msg: str) -> None:
        """What uvicorn says to what it cannot parse."""
        self._refuse(400, msg)

    def sweep(self, now_s: float) -> None:
        """End the connection if the other side takes too long."""
        if now_s > self._late_s:
            self._refuse(408, "the request did not come in time")
        elif now_s > self._stuck_s:
            self.transport.abort()
        elif now_s > self._resting_s:
            self.transport.close()

    def _refuse(self, status: int, message: str) -> None:
        self._refused = True
        self._late_s = _NEVER
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            whole = not self.cycle.more_body
            if self.cycle.response_started or whole:  # no answer of ours must be taken for its own
                self.transport.abort()
                return
        body = json.dumps(ApiError(status, message, code="invalid_http").body).encode()
        head = (
            f"HTTP/1.1 {status} Refused\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


class Pen:
    """Writes an answer without the detour of ASGI's messages and a check of each header.

    Each method says whether it wrote: else it has to go by ``send``. For HTTP/1.1 alone.
    """

    __slots__ = ("_cycle",)

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle

    def whole(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bool:
        """Head and body in one; ``headers`` has the length, and nothing of connections."""
        cycle = self._cycle
        if cycle.response_started or cycle.flow.write_paused:
            return False
        if cycle.disconnected:
            return True
        head = _head(status, headers, b"", keep_alive=cycle.keep_alive)
        if head is None:
            return False
        cycle.response_started = True
        cycle.waiting_for_100_continue = False
        cycle.transport.write(head + body)
        self._end()
        return True

    def begin(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> bool:
        """The head of an answer whose length nobody knows: it goes out in chunks."""
        cycle = self._cycle
        if cycle.response_started or cycle.flow.write_paused:
            return False
        head = _head(status, headers, _CHUNKED, keep_alive=cycle.keep_alive)
        if head is None:
            return False
        cycle.response_started = cycle.chunked_encoding = True
        cycle.waiting_for_100_continue = False
        if not cycle.disconnected:
            cycle.transport.write(head)
        return True

    def piece(self, body: bytes) -> bool:
        """More of an answer that goes out in chunks."""
        cycle = self._cycle
        if not cycle.chunked_encoding or not body or cycle.flow.write_paused:
            return False
        if not (cycle.disconnected or cycle.response_complete):
            cycle.transport.write(b"%x\r\n%b\r\n" % (len(body), body))
        return True

    def last(self, body: bytes) -> bool:
        """The last of an answer that goes out in chunks, and its end; ``body`` may be empty."""
        cycle = self._cycle
        if not cycle.chunked_encoding or cycle.response_complete or cycle.flow.write_paused:
            return False
        if not cycle.disconnected:
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            cycle.transport.write(chunk + b"0\r\n\r\n")
            self._end()
        return True

    def _end(self) -> None:
        cycle = self._cycle
        cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()


def _head(
    status: int, headers: Sequence[tuple[bytes, bytes]], more: bytes, *, keep_alive: bool
) -> bytes | None:
    """The head's bytes; None where a value cannot stand in one."""
    if _NOT_IN_VALUES.search(b"".join([value for _, value in headers])):
        return None
    lines = [b"%b: %b\r\n" % header for header in headers]
    if not keep_alive:
        lines.append(_CLOSE)
    return b"".join((STATUS_LINE[status], *lines, more, b"\r\n"))


def _unchunked(cycle: RequestResponseCycle) -> Send:
    """HTTP/1.0 knows no chunks: an answer without a length ends with its connection."""
    plain = cycle.send
    endless = False

    async def send(message: Any) -> None:
        nonlocal endless
        if message["type"] == "http.response.start":
            endless = all(name.lower() != b"content-length" for name, _ in message["headers"])
            if endless:
                cycle.chunked_encoding = False
        elif endless:
            cycle.expected_content_length = len(message.get("body", b""))
        await plain(message)

    return send


def _problem(
    headers: list[tuple[bytes, bytes]], url: bytes, version: str
) -> tuple[int, str] | None:
    """Why a request's head is refused: status and message."""
    if len(headers) > MOST_HEADERS:
        return 431, f"more than {MOST_HEADERS} headers"
    size, hosts, lengths, coded = len(url), 0, 0, False
    for name, value in headers:
        size += len(name) + len(value)
        if name == b"host":
            hosts += 1
        elif name == b"content-length":
            lengths += 1
        elif name == b"transfer-encoding":
            coded = True
    if size > MOST_HEAD_BYTES:
        return 431, f"the head is larger than {MOST_HEAD_BYTES} bytes"
    if coded or lengths > 1:
        coding = [v.lower() for n, v in headers if n in (b"transfer-encoding", b"content-length")]
        if coding != [b"chunked"] or version != "1.1":
            return 400, "the body's length is told in more than one way, or in none that is known"
    if hosts > 1 or (hosts == 0 and version == "1.1"):
        return 400, "expected one host header"
    if not url.startswith(b"/"):
        return 400, "the request's target is no path"
    return None


class Door:
    """A listening socket, and the connections that came through it."""

    def __init__(self, app: ASGIApp, host: str, port: int) -> None:
        """``port`` 0: one that is free, see `port` after `open`."""
        self._app = app
        self._host = host
        self.port = port
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._state = ServerState()

    async def open(self) -> None:
        """Listen; other processes of this user may listen on the same port.

        Raises:
            OSError: the address is in use by something else, or not ours.
        """
        config = uvicorn.Config(
            self._app,
            http=DoorProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        config.load()
        loop = asyncio.get_running_loop()

        def protocol() -> DoorProtocol:
            return DoorProtocol(config, self._state, {}, loop)

        listener = _listener(self._host, self.port)
        self.port = listener.getsockname()[1]
        self._server = await loop.create_server(protocol, sock=listener, backlog=BACKLOG)
        self._sweeper = asyncio.create_task(self._sweep())

    @property
    def busy(self) -> int:
        """Requests that are being answered."""
        return len(self._state.tasks)

    @property
    def accepting(self) -> bool:
        """Whether new connections are taken."""
        return self._server is not None and self._server.is_serving()

    def refuse_more(self) -> None:
        """Take no more connections or requests; those that are under way go on."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._state.connections):
            connection.shutdown()

    async def close(self, drain_s: float) -> None:
        """Take no more, finish what is under way, and close.

        After ``drain_s`` what is left is broken off.
        """
        if self._server is None:
            return
        self.refuse_more()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain_s):
                while self._state.tasks:
                    await asyncio.wait(set(self._state.tasks))
        for task in list(self._state.tasks):
            task.cancel()
        for connection in list(self._state.connections):
            connection.transport.close()
        assert self._sweeper is not None
        self._sweeper.cancel()
        await asyncio.gather(self._sweeper, *self._state.tasks, return_exceptions=True)

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_S)
            now_s = loop.time()
            for connection in list(self._state.connections):
                connection.sweep(now_s)  # type: ignore[union-attr]


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener
