"""HTTP/1.1 for an emulated engine: requests in, bytes out when a step ends, and rude endings.

A protocol of its own on httptools' parser, because a token then costs one write to a socket: no
task wakes for it. And because faults are what ordinary servers prevent: connections cut in the
middle, answers that never come.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from http.client import responses
from typing import cast

import httptools

MAX_BODY_BYTES = 64 * 1024 * 1024
MARK = b"x-emulated: 1\r\n"
JSON, SSE, TEXT = (
    "application/json",
    "text/event-stream; charset=utf-8",
    "text/plain; version=0.0.4",
)
LAST_CHUNK = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """Data as one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Exchange:
    """One request, and the way to answer it."""

    def __init__(
        self,
        connection: Connection,
        method: str,
        target: str,
        headers: Mapping[bytes, bytes],
        body: bytes,
        *,
        keep_alive: bool,
    ) -> None:
        self._connection = connection
        self.method = method
        self.path, _, self.query = target.partition("?")
        self.headers = headers
        self.body = body
        self.keep_alive = keep_alive
        self.gone = False
        self.on_gone: Callable[[], None] | None = None

    def respond(self, status: int, body: bytes = b"", content_type: str = JSON) -> None:
        """Answer in whole."""
        head = self._head(status, content_type) + b"content-length: %d\r\n\r\n" % len(body)
        self._write(head + body)
        self._done()

    def begin(self, content_type: str = SSE) -> None:
        """Begin an answer in chunks."""
        self._write(self._head(200, content_type) + b"transfer-encoding: chunked\r\n\r\n")

    def write(self, chunks: bytes) -> None:
        """Send what `chunk` made."""
        self._write(chunks)

    def end(self) -> None:
        """End an answer in chunks."""
        self._write(LAST_CHUNK)
        self._done()

    def abort(self) -> None:
        """Cut the connection, whatever was sent."""
        self._connection.abort()

    def _head(self, status: int, content_type: str) -> bytes:
        closing = "" if self.keep_alive else "connection: close\r\n"
        phrase = responses.get(status, "")
        head = f"HTTP/1.1 {status} {phrase}\r\ncontent-type: {content_type}\r\n{closing}"
        return head.encode() + MARK

    def _write(self, data: bytes) -> None:
        if not self.gone:
            self._connection.write(data)

    def _done(self) -> None:
        if not self.gone:
            self._connection.done(self)


class Connection(asyncio.Protocol):
    """One client's connection; its requests are answered one after another."""

    def __init__(self, handle: Callable[[Exchange], None], peers: set[Connection]) -> None:
        """``peers`` holds every open connection of the server."""
        self._handle = handle
        self._peers = peers
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._queue: deque[Exchange] = deque()
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._body = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As asyncio says."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by name
        self._peers.add(self)

    def connection_lost(self, _exc: Exception | None) -> None:
        """The client left, or was cut off."""
        self._peers.discard(self)
        self._transport = None
        for exchange in self._queue:
            exchange.gone = True
            if exchange.on_gone is not None:
                exchange.on_gone()
        self._queue.clear()

    def data_received(self, data: bytes) -> None:
        """As asyncio says."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # answered as if it had not been offered
        except httptools.HttpParserError:
            self.write(b"HTTP/1.1 400 Bad Request\r\n" + MARK + b"content-length: 0\r\n\r\n")
            self._close()

    def on_message_begin(self) -> None:
        """As httptools says."""
        self._target, self._headers, self._body = b"", {}, bytearray()

    def on_url(self, url: bytes) -> None:
        """As httptools says."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """As httptools says."""
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """As httptools says."""
        if self._headers.get(b"expect", b"").lower() == b"100-continue":
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """As httptools says."""
        self._body += body
        if len(self._body) > MAX_BODY_BYTES:
            self.abort()

    def on_message_complete(self) -> None:
        """As httptools says."""
        exchange = Exchange(
            self,
            self._parser.get_method().decode("latin-1"),
            self._target.decode("latin-1"),
            self._headers,
            bytes(self._body),
            keep_alive=self._parser.should_keep_alive(),
        )
        self._queue.append(exchange)
        if len(self._queue) == 1:
            self._handle(exchange)

    def write(self, data: bytes) -> None:
        """Send, unless the client left."""
        if self._transport is not None:
            self._transport.write(data)

    def done(self, exchange: Exchange) -> None:
        """The answer is complete: on to the next request."""
        self._queue.popleft()
        if not exchange.keep_alive:
            self._close()
        elif self._queue:  # not from here: a client may have sent many without waiting
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        if self._queue:
            self._handle(self._queue[0])

    def abort(self) -> None:
        """Cut the connection."""
        if self._transport is not None:
            self._transport.abort()

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()
