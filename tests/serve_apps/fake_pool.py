"""An engine that does as told, and a picker over a few of them: a pool without Ray or vLLM."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field

from aiohttp import web
from aiohttp.test_utils import TestServer

from serve_apps.replicas import GroupBusyError, NoReplicaError, Replica

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
        server = TestServer(app)
        await server.start_server()
        try:
            yield str(server.make_url("")).rstrip("/")
        finally:
            await server.close()

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


@dataclass
class Pool:
    """Replicas by group, picked in order; counts the slots that are held."""

    groups: dict[str, list[Replica]] = field(default_factory=dict)
    busy: frozenset[str] = frozenset()
    held: int = 0
    waits: list[tuple[str, float]] = field(default_factory=list)
    picked: list[str] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def pick(
        self, group: str, avoid: Collection[str], wait_s: float
    ) -> AsyncIterator[Replica]:
        self.waits.append((group, wait_s))
        if group in self.busy:
            raise GroupBusyError(group)
        replicas = self.groups.get(group, [])
        if not replicas:
            raise NoReplicaError(group)
        chosen = next((r for r in replicas if r.id not in avoid), replicas[0])
        self.picked.append(chosen.id)
        self.held += 1
        try:
            yield chosen
        finally:
            self.held -= 1

    async def ready(self) -> Mapping[str, int]:
        return {name: len(replicas) for name, replicas in self.groups.items()}
