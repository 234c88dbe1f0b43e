"""Clients of the stand: one request at a time, at a rate, and what became of each."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

CHAT = "/v1/chat/completions"


@dataclass
class Reply:
    """What a client saw. Times are seconds since it asked; ``error`` is its own trouble."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    code: str = ""
    """Of an error, in the answer or as an event of its stream."""
    tokens: int = 0
    complete: bool = False
    error: str = ""
    first_s: float | None = None
    took_s: float = 0.0
    began_s: float = 0.0
    tenant: str = ""

    @property
    def ok(self) -> bool:
        """Whether the whole answer came."""
        return self.status == 200 and self.complete and not self.code and not self.error


class Client:
    """Asks the ingress. ``async with Client(url) as client``."""

    def __init__(self, url: str, timeout_s: float = 60.0) -> None:
        self.url = url
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Client:
        connector = aiohttp.TCPConnector(limit=0)
        self._session = aiohttp.ClientSession(timeout=self._timeout, connector=connector)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def ask(
        self,
        *,
        stream: bool = False,
        tokens: int = 16,
        model: str = "m1",
        prompt: str = "tell me of the sea",
        headers: dict[str, str] | None = None,
        on_token: Callable[[], Awaitable[None]] | None = None,
        **fields: Any,
    ) -> Reply:
        """One chat completion, to its end. ``on_token`` is called after each event of a stream."""
        body = {
            "model": model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": tokens,
            "ignore_eos": True,
            "stream": stream,
        }
        reply = Reply(began_s=time.perf_counter())
        assert self._session is not None
        try:
            async with self._session.post(
                self.url + CHAT, json=body | fields, headers=headers
            ) as answer:
                reply.status, reply.headers = answer.status, dict(answer.headers)
                if answer.status == 200 and stream:
                    await self._events(answer, reply, on_token)
                else:
                    _whole(await answer.read(), reply)
        except (aiohttp.ClientError, TimeoutError) as error:
            reply.error = type(error).__name__
        reply.took_s = time.perf_counter() - reply.began_s
        return reply

    async def _events(
        self,
        answer: aiohttp.ClientResponse,
        reply: Reply,
        on_token: Callable[[], Awaitable[None]] | None,
    ) -> None:
        async for line in answer.content:
            if not line.startswith(b"data:"):
                continue
            if reply.first_s is None:
                reply.first_s = time.perf_counter() - reply.began_s
            text = line[5:].strip()
            if text == b"[DONE]":
                reply.complete = True
                continue
            event = json.loads(text)
            if "error" in event:
                reply.code = str(event["error"].get("code"))
                continue
            reply.tokens += 1
            if on_token is not None:
                await on_token()

    async def get(self, path: str, **query: object) -> tuple[int, Any]:
        """Status and JSON of a GET."""
        assert self._session is not None
        params = {name: str(value) for name, value in query.items()}
        async with self._session.get(self.url + path, params=params) as answer:
            return answer.status, await answer.json(content_type=None)

    async def post(self, path: str, body: Any = None) -> int:
        """Status of a POST of JSON."""
        assert self._session is not None
        async with self._session.post(self.url + path, json=body or {}) as answer:
            await answer.read()
            return answer.status

    async def delete(self, path: str) -> int:
        """Status of a DELETE."""
        assert self._session is not None
        async with self._session.delete(self.url + path) as answer:
            await answer.read()
            return answer.status


def _whole(body: bytes, reply: Reply) -> None:
    try:
        told = json.loads(body)
    except ValueError:
        reply.error = "no JSON"
        return
    error = told.get("error")
    if error:
        shaped = isinstance(error, dict)
        reply.code = str(error.get("code") or error.get("type")) if shaped else str(error)
    else:
        reply.complete = True
        reply.tokens = told.get("usage", {}).get("completion_tokens", 0)


def arrivals(rate_rps: float, seconds: float, seed: int = 0) -> list[float]:
    """Poisson arrivals: seconds from the start."""
    rng, at_s, found = random.Random(seed), 0.0, []
    while (at_s := at_s + rng.expovariate(rate_rps)) < seconds:
        found.append(at_s)
    return found


async def at(times_s: Sequence[float], ask: Callable[[int], Awaitable[Reply]]) -> list[Reply]:
    """Ask at these times, whatever became of those before; all replies, in order."""
    began_s = time.perf_counter()
    tasks = []
    for i, due_s in enumerate(times_s):
        wait_s = due_s - (time.perf_counter() - began_s)
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        tasks.append(asyncio.ensure_future(ask(i)))
    return list(await asyncio.gather(*tasks))


async def in_turn(count: int, width: int, ask: Callable[[int], Awaitable[Reply]]) -> list[Reply]:
    """``count`` requests, ``width`` at a time."""
    replies: list[Reply] = []
    numbers = iter(range(count))

    async def worker() -> None:
        for i in numbers:
            replies.append(await ask(i))  # noqa: PERF401 - others append meanwhile

    await asyncio.gather(*(worker() for _ in range(width)))
    return replies
