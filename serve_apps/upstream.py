"""A pooled HTTP/1.1 client for engines: one request at a time per connection, bytes as they come.

It does what the path of a request needs and no more: POST with a body, GET without, an answer in
whole or in pieces. httptools parses. Leaving an answer unfinished closes its connection, which
tells the engine to stop.
"""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httptools

from profiler.errors import InputError

CONNECT_TIMEOUT_S = 2.0
IDLE_S = 4.0
"""A connection that rested longer is not used again: engines close theirs after five seconds."""
MOST_IDLE = 1024
"""Connections kept per engine; more than that are closed when they are done."""
TICK_S = 0.001
"""Timers are no finer than this."""
HIGH_WATER_BYTES = 1024 * 1024
"""An answer that nobody takes away is read no further than this."""
PASSED_BACK = frozenset((b"content-type", b"retry-after", b"cache-control", b"x-emulated"))
_SSE = b"text/event-stream"


class EngineGoneError(Exception):
    """The engine could not be reached, or its connection ended before the answer did.

    ``sent``: whether it may have begun to work on the request.
    """

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class SilentEngineError(Exception):
    """The engine sent nothing for as long as one was ready to wait."""


class Answer(asyncio.Protocol):
    """One connection, and the answer that is coming over it.

    ``status`` and ``headers`` are set once `Upstream.ask` returned; ``body`` then holds a plain
    answer in whole, while a stream is taken piece by piece with `next`.
    """

    __slots__ = (
        "_buffered",
        "_chunked",
        "_complete",
        "_due_s",
        "_idle_s",
        "_into",
        "_length",
        "_loop",
        "_parser",
        "_paused",
        "_pieces",
        "_pool",
        "_reusable",
        "_silent",
        "_timer",
        "_transport",
        "_waiter",
        "headers",
        "idle_since_s",
        "lost",
        "status",
        "stream",
        "used",
    )

    def __init__(self, pool: _Pool, loop: asyncio.AbstractEventLoop) -> None:
        self._pool = pool
        self._loop = loop
        self._parser: Any = None
        self._transport: Any = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = 0.0
        self._into: Callable[[bytes], bool] | None = None
        self._paused = False
        self.used = False
        self.lost = False
        self.idle_since_s = 0.0
        self._reset()

    def _reset(self) -> None:
        self.status = 0
        self.stream = False
        self.headers: list[tuple[bytes, bytes]] = []
        self._pieces: list[bytes] = []
        self._buffered = 0
        self._complete = self._reusable = False
        self._silent = False
        self._length = self._chunked = False
        self._idle_s = 0.0

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of `asyncio.Protocol`."""
        self._transport = transport
        self._parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        """Of `asyncio.Protocol`. What comes unasked must never be taken for the next answer."""
        if self._complete:
            self.end()
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.lost = True
            self._transport.abort()
        if self._complete or self.lost:
            self._wake()
        elif self.stream and self._pieces:
            if self._into is None or not self._poured(self._into):
                self._wake()
            else:
                self._due_s = self._loop.time() + self._idle_s

    def connection_lost(self, exc: Exception | None) -> None:
        """Of `asyncio.Protocol`. Without a length, the end of the connection ends the answer."""
        if self.status >= 200 and not (self._length or self._chunked) and exc is None:
            self._complete = True
        self.lost = True
        self._disarm()
        self._pool.forget(self)
        self._wake()

    # httptools

    def on_message_begin(self) -> None:
        """Of httptools. A second answer to one request spoils the connection."""
        if self._complete:
            raise ValueError("more than was asked for")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Of httptools."""
        name = name.lower()
        if name in PASSED_BACK:
            self.headers.append((name, value))
            if name == b"content-type":
                self.stream = value.startswith(_SSE)
        elif name == b"content-length":
            self._length = True
        elif name == b"transfer-encoding":
            self._chunked = True

    def on_headers_complete(self) -> None:
        """Of httptools."""
        self.status = self._parser.get_status_code()

    def on_body(self, piece: bytes) -> None:
        """Of httptools."""
        self._pieces.append(piece)
        self._buffered += len(piece)
        if self._buffered > HIGH_WATER_BYTES and self.stream and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        """Of httptools."""
        if self.status < 200:  # 100 Continue and its like come before the answer
            self._reset()
        else:
            self._complete = True
            self._reusable = self._parser.should_keep_alive()  # the parser forgets it right after

    # what a caller sees

    @property
    def body(self) -> bytes:
        """A plain answer, in whole."""
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)

    async def begin(self, request: bytes, first_byte_s: float) -> None:
        """Send a request, and wait for a plain answer in whole or a stream's first piece."""
        self._reset()
        self._idle_s = first_byte_s
        self._transport.write(request)
        while not (self._complete or (self.stream and self._pieces)):
            await self._wait()

    async def next(self, idle_s: float) -> bytes:
        """The next bytes of a stream, all that have come; empty at its end.

        Raises:
            EngineGoneError: the connection ended before the answer did.
            SilentEngineError: nothing came for ``idle_s``.
        """
        self._idle_s = idle_s
        while not self._pieces:
            if self._complete:
                return b""
            await self._wait()
        return self._taken()

    async def pour(self, into: Callable[[bytes], bool], idle_s: float) -> None:
        """Hand the pieces of a stream over as they come, in the very call that brings them.

        Returns when the stream has ended, or when ``into`` says that it did not take a piece: what
        is left is for `next`, the last piece of all included, that it can go out with the end.

        Raises:
            EngineGoneError, SilentEngineError: as `next`.
        """
        self._idle_s, self._into = idle_s, into
        try:
            if not self._complete and self._poured(into):
                while not (self._complete or self._pieces):
                    await self._wait()
        finally:
            self._into = None

    @property
    def ended(self) -> bool:
        """Whether all of the answer has been taken."""
        return self._complete and not self._pieces

    def _poured(self, into: Callable[[bytes], bool]) -> bool:
        """Whether nothing is left that ``into`` did not take."""
        if not self._pieces:
            return True
        piece = self.body
        if not into(piece):
            return False
        self._taken()
        return True

    def _taken(self) -> bytes:
        taken = self.body
        self._pieces.clear()
        self._buffered = 0
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        return taken

    def close(self) -> None:
        """Give the connection back when the answer is complete, else end it."""
        if self._complete and self._reusable and not (self.lost or self._paused):
            self._pool.give_back(self)
        else:
            self.end()

    def end(self) -> None:
        """End the connection now."""
        self._disarm()
        self._pool.forget(self)
        if not self.lost:
            self._transport.abort()

    # waiting

    async def _wait(self) -> None:
        if self.lost:
            raise EngineGoneError("the engine's connection ended", sent=True)
        self._waiter = waiter = self._loop.create_future()
        self._arm()
        try:
            await waiter
        finally:
            self._waiter = None
        if self._silent:
            raise SilentEngineError(f"no byte for {self._idle_s:.1f} s")
        if self.lost and not self._complete and not self._pieces:
            raise EngineGoneError("the engine's connection ended", sent=True)

    def _arm(self) -> None:
        """Watch the time from now. A timer that is set for earlier looks again when it is due, and
        so one serves for many requests: making one takes longer than a look.
        """
        self._due_s = self._loop.time() + self._idle_s
        if self._timer is not None and self._timer.when() <= self._due_s:
            return
        self._disarm()
        self._timer = self._loop.call_at(self._due_s, self._look)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._waiter is None:
            return
        if self._loop.time() < self._due_s - TICK_S:
            self._timer = self._loop.call_at(self._due_s, self._look)
            return
        self._silent = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class _Pool:
    """The connections to one engine."""

    def __init__(self, host: str, port: int, key: str = "") -> None:
        self.host = host
        self.port = port
        name = f"[{host}]" if ":" in host else host
        shown = f"authorization: Bearer {key}\r\n" if key else ""
        self.head = f"host: {name}:{port}\r\ncontent-type: application/json\r\n{shown}".encode()
        self.idle: deque[Answer] = deque()
        self.open: set[Answer] = set()
        self.retired = False
        """Whether the engine is no more: what ends is not kept for a next request."""

    def take(self, now_s: float) -> Answer | None:
        """A connection that rests, the one used last; those that rested too long are ended."""
        while self.idle:
            found = self.idle.pop()
            if now_s - found.idle_since_s < IDLE_S:
                return found
            found.end()
            while self.idle:
                self.idle.pop().end()
        return None

    def give_back(self, answer: Answer) -> None:
        """Keep a connection for the next request."""
        if self.retired or len(self.idle) >= MOST_IDLE:
            answer.end()
            return
        answer.idle_since_s = asyncio.get_running_loop().time()
        self.idle.append(answer)

    def forget(self, answer: Answer) -> None:
        """A connection is gone."""
        self.open.discard(answer)
        try:
            self.idle.remove(answer)
        except ValueError:
            return

    async def connect(self, timeout_s: float) -> Answer:
        """A new connection.

        Raises:
            EngineGoneError: refused, unreachable, or too slow.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                _, answer = await loop.create_connection(
                    functools.partial(Answer, self, loop), self.host, self.port
                )
        except (OSError, TimeoutError) as error:
            raise EngineGoneError(f"no connection: {error}", sent=False) from None
        self.open.add(answer)
        return answer


class Upstream:
    """All engines. One per event loop."""

    def __init__(self, connect_timeout_s: float = CONNECT_TIMEOUT_S, key: str = "") -> None:
        """``key``: shown to every engine.

        Raises:
            InputError: it cannot stand in a header.
        """
        if not key.isascii() or not key.isprintable() or " " in key:
            raise InputError("the engine key holds blanks or more than printable ASCII")
        self._connect_timeout_s = connect_timeout_s
        self._key = key
        self._pools: dict[str, _Pool] = {}

    async def ask(
        self,
        url: str,
        path: bytes,
        body: bytes,
        first_byte_s: float,
        headers: bytes = b"",
    ) -> Answer:
        """POST a JSON body; the answer is whole, or a stream whose first bytes have come.

        ``headers`` are lines of their own, each with its end. Whoever gets the answer must `close`
        it. A connection that the engine closed while it rested is replaced once.

        Raises:
            EngineGoneError: before the first byte.
            SilentEngineError: no first byte within ``first_byte_s``.
        """
        pool = self._pool(url)
        length = b"content-length: %d\r\n\r\n" % len(body)
        head = b"".join((b"POST ", path, b" HTTP/1.1\r\n", pool.head, headers, length))
        return await self._ask(pool, head + body, first_byte_s)

    async def get(self, url: str, path: bytes, timeout_s: float) -> Answer:
        """GET a path; the answer is whole.

        Raises:
            EngineGoneError: as `ask`.
            SilentEngineError: as `ask`.
        """
        pool = self._pool(url)
        return await self._ask(
            pool, b"".join((b"GET ", path, b" HTTP/1.1\r\n", pool.head, b"\r\n")), timeout_s
        )

    async def _ask(self, pool: _Pool, request: bytes, first_byte_s: float) -> Answer:
        answer = pool.take(asyncio.get_running_loop().time())
        if answer is not None:
            try:
                return await self._begin(answer, request, first_byte_s)
            except EngineGoneError:
                if answer.status:
                    raise
        return await self._begin(await pool.connect(self._connect_timeout_s), request, first_byte_s)

    async def _begin(self, answer: Answer, request: bytes, first_byte_s: float) -> Answer:
        try:
            await answer.begin(request, first_byte_s)
        except BaseException:
            answer.end()
            raise
        return answer

    def keep(self, urls: set[str]) -> None:
        """Forget engines that are no more; answers that are under way come to their end."""
        for url in self._pools.keys() - urls:
            pool = self._pools.pop(url)
            pool.retired = True
            for answer in list(pool.idle):
                answer.end()

    @property
    def connections(self) -> int:
        """How many are open, at work or at rest."""
        return sum(len(pool.open) for pool in self._pools.values())

    def close(self) -> None:
        """End every connection."""
        for pool in self._pools.values():
            for answer in list(pool.open):
                answer.end()

    def _pool(self, url: str) -> _Pool:
        pool = self._pools.get(url)
        if pool is None:
            parts = urlsplit(url)
            pool = self._pools[url] = _Pool(parts.hostname or "", parts.port or 80, self._key)
        return pool
