"""A stand-in for any OpenAI-compatible chat server: canned answers, and faults on demand."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer


@dataclass
class FakeOpenAI:
    """What the server does; tests set fields and read ``seen``.

    ``reply`` makes the answer of (model, last message). ``refuse`` holds body fields that are
    answered 400; ``faults`` are statuses for the next requests, one each, ``"die"`` cuts the
    connection. ``die_after`` requests every further one is cut.
    """

    models: tuple[str, ...] = ("small",)
    reply: Callable[[str, str], str] = lambda model, text: "4"
    logprobs: tuple[float, ...] | None = (-0.1, -0.3)
    refuse: dict[str, str] = field(default_factory=dict)
    faults: list[int | str] = field(default_factory=list)
    status: int | None = None
    die_after: int | None = None
    retry_after: str | None = None
    body: Any = None
    finish: str = "stop"
    seen: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        """Run on a free port of the loopback interface; yields the base URL."""
        app = web.Application()
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._complete)
        server = TestServer(app, host="127.0.0.1")
        await server.start_server()
        try:
            yield str(server.make_url("")).rstrip("/")
        finally:
            await server.close()

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": name} for name in self.models]})

    async def _complete(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.seen.append(body)
        self.keys.append(request.headers.get("Authorization"))
        fault = self.faults.pop(0) if self.faults else self.status
        if fault == "die" or (self.die_after is not None and len(self.seen) > self.die_after):
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if fault is not None:
            headers = {"Retry-After": self.retry_after} if self.retry_after else {}
            return self._error(int(fault), "fake trouble", headers)
        for key, message in self.refuse.items():
            if key in body:
                return self._error(400, message, {})
        return web.json_response(self.body if self.body is not None else self._answer(body))

    def _error(self, status: int, message: str, headers: dict[str, str]) -> web.Response:
        return web.json_response({"error": {"message": message}}, status=status, headers=headers)

    def _answer(self, body: dict[str, Any]) -> dict[str, Any]:
        text = self.reply(body["model"], body["messages"][-1]["content"])
        choice: dict[str, Any] = {
            "index": 0,
            "finish_reason": self.finish,
            "message": {"role": "assistant", "content": text},
        }
        if body.get("logprobs") and self.logprobs is not None:
            choice["logprobs"] = {"content": [self._token(p) for p in self.logprobs]}
        usage = {"prompt_tokens": 10, "completion_tokens": len(self.logprobs or (1, 1))}
        return {"choices": [choice], "usage": usage}

    def _token(self, logprob: float) -> dict[str, Any]:
        other = math.log1p(-math.exp(logprob)) if -30 < logprob < 0 else -30.0
        top = [{"token": "x", "logprob": logprob}, {"token": "y", "logprob": other}]
        return {"token": "x", "logprob": logprob, "top_logprobs": top}
