"""An engine that does as told: a pool without Ray or vLLM."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from aiohttp import web
from aiohttp.test_utils import TestServer

SSE = "text/event-stream"


@dataclass
class Engine:
    """Answers every completion with ``chunks``; ``cut`` breaks off after them."""

    chunks: tuple[bytes, ...] = (b'{"ok": true}',)
    status: int = 200
    content_type: str = "application/json"
    cut: bool = False
    hang_after: int | None = None
    bodies: list[bytes] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    client_left: asyncio.Event = field(default_factory=asyncio.Event)

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_post("/v1/{rest:.*}", self._answer)
        app.router.add_get("/health", self._health)
        server = TestServer(app)
        await server.start_server()
        try:
            yield str(server.make_url("")).rstrip("/")
        finally:
            await server.close()

    async def _health(self, _request: web.Request) -> web.Response:
        return web.Response(status=200 if self.status < 500 else 503)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.read())
        self.headers.append(request.headers)
        try:
            return await self._write(request)
        except asyncio.CancelledError:
            self.client_left.set()
            raise

    async def _write(self, request: web.Request) -> web.StreamResponse:
        self.started.set()
        if self.hang_after == 0:
            await asyncio.Event().wait()
        response = web.StreamResponse(status=self.status)
        response.content_type = self.content_type
        response.headers["x-request-id"] = "the engine's"
        await response.prepare(request)
        for i, chunk in enumerate(self.chunks, start=1):
            await response.write(chunk)
            if i == self.hang_after:
                await asyncio.Event().wait()
        if self.cut:
            assert request.transport is not None
            request.transport.abort()
        return response
