"""A stand-in for vLLM's API server: its HTTP pages, its SSE stream, and its faults on demand.

Tokens come from one loop of continuous batching, a step at a time, so that requests sent at once
decode at once; a step lasts what ``step_time`` says.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web
from aiohttp.test_utils import TestServer

from profiler.core import StepTime

Fault = Literal[
    "none", "status", "die", "cut", "empty", "error_event", "garbage", "few_in_usage", "wrong_input"
]


@dataclass
class FakeEngine:
    """What the server does; tests set fields and read ``seen``."""

    step_time: StepTime = field(
        default_factory=lambda: StepTime(
            base_s=0.001, per_prefill_token_s=0.0, per_sequence_s=0.0, per_kv_token_s=0.0
        )
    )
    max_model_len: int | None = 2048
    kv_blocks: int | None = 182
    block_tokens: int = 128
    kv_tokens: int | str = "None"
    running: int = 0
    healthy: bool = True
    fault: Fault = "none"
    status: int = 500
    after_tokens: int = 3
    tokens_per_chunk: int = 1
    usage: bool = True
    fragment_bytes: int | None = None
    wait_for: int = 0
    die_after_requests: int | None = None
    seen: list[dict[str, Any]] = field(default_factory=list)
    _active: dict[int, asyncio.Queue[int]] = field(default_factory=dict)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        """Run on a free port of the loopback interface; yields the base URL."""
        app = web.Application()
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/version", self._version)
        app.router.add_get("/health", self._health)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_post("/v1/completions", self._complete)
        app.router.add_post("/v1/chat/completions", self._complete)
        server = TestServer(app, host="127.0.0.1")
        await server.start_server()
        loop = asyncio.create_task(self._engine_loop())
        try:
            yield str(server.make_url("")).rstrip("/")
        finally:
            loop.cancel()
            await asyncio.gather(loop, return_exceptions=True)
            await server.close()

    async def _models(self, request: web.Request) -> web.Response:
        card = {"id": "fake-model", "object": "model", "max_model_len": self.max_model_len}
        return web.json_response({"object": "list", "data": [card]})

    async def _version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": "9.9.9"})

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if self.healthy else 503)

    async def _metrics(self, request: web.Request) -> web.Response:
        lines = [
            "# HELP vllm:num_requests_running Running requests.",
            f'vllm:num_requests_running{{engine="0"}} {float(self.running)}',
        ]
        if self.kv_blocks is not None:
            lines.append(
                f'vllm:cache_config_info{{block_size="{self.block_tokens}",'
                f'kv_cache_size_tokens="{self.kv_tokens}",'
                f'num_cpu_blocks="None",num_gpu_blocks="{self.kv_blocks}"}} 1.0'
            )
        return web.Response(text="\n".join(lines) + "\n")

    async def _engine_loop(self) -> None:
        while True:
            await asyncio.sleep(self.step_time(0, len(self._active), 0))
            for queue in self._active.values():
                queue.put_nowait(1)

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.seen.append(body)
        if self.die_after_requests is not None and len(self.seen) > self.die_after_requests:
            self.fault = "die"
        if len(self.seen) >= self.wait_for:
            self._arrived.set()
        await self._arrived.wait()
        if self.fault == "status":
            error = {"error": {"message": f"fake trouble {self.status}", "type": "fake"}}
            return web.json_response(error, status=self.status)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        queue: asyncio.Queue[int] = asyncio.Queue()
        self._active[id(queue)] = queue
        try:
            await self._stream(request, response, body, queue)
        finally:
            del self._active[id(queue)]
        return response

    async def _stream(
        self,
        request: web.Request,
        response: web.StreamResponse,
        body: dict[str, Any],
        queue: asyncio.Queue[int],
    ) -> None:
        chat = "messages" in body
        total = 0 if self.fault == "empty" else body["max_tokens"]
        if chat:
            await self._send(response, {"choices": [{"delta": {"role": "assistant"}}]})
        done = 0
        while done < total:
            take = min(self.tokens_per_chunk, total - done)
            for _ in range(take):
                await queue.get()
            done += take
            await self._send(response, self._chunk(body, " word" * take, done, total, chat))
            if done >= self.after_tokens and await self._break(request, response):
                return
        if self.usage:
            await self._send(response, {"choices": [], "usage": self._usage(body, done)})
        await self._write(response, b"data: [DONE]\n\n")

    async def _break(self, request: web.Request, response: web.StreamResponse) -> bool:
        """Misbehave in the middle of the stream; True when that ends it."""
        match self.fault:
            case "die":
                assert request.transport is not None
                request.transport.abort()
            case "cut":
                await response.write_eof()
            case "error_event":
                await self._send(response, {"error": {"message": "engine core died", "code": 500}})
            case "garbage":
                await self._write(response, b"data: <html>bad gateway</html>\n\n")
            case _:
                return False
        return True

    def _chunk(
        self, body: dict[str, Any], text: str, done: int, total: int, chat: bool
    ) -> dict[str, Any]:
        finish = "length" if done == total else None
        content = {"delta": {"content": text}} if chat else {"text": text}
        chunk: dict[str, Any] = {"choices": [{"index": 0, "finish_reason": finish, **content}]}
        if self.usage and body.get("stream_options", {}).get("continuous_usage_stats"):
            chunk["usage"] = self._usage(body, done)
        return chunk

    def _usage(self, body: dict[str, Any], done: int) -> dict[str, int]:
        prompt = len(body.get("prompt") or body.get("messages") or "")
        return {
            "prompt_tokens": prompt + (self.fault == "wrong_input"),
            "completion_tokens": 1 if self.fault == "few_in_usage" else done,
        }

    async def _send(self, response: web.StreamResponse, data: dict[str, Any]) -> None:
        await self._write(response, f"data: {json.dumps(data)}\n\n".encode())

    async def _write(self, response: web.StreamResponse, data: bytes) -> None:
        size = self.fragment_bytes or len(data)
        for at in range(0, len(data), size):
            await response.write(data[at : at + size])
            if self.fragment_bytes:
                await asyncio.sleep(0)
