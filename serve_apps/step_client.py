"""One completion over HTTP, streamed and put together: what drives chains on real engines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import aiohttp

from profiler.client import api_base
from profiler.errors import EngineError
from profiler.timing import brief, sse_events


class CompletionClient:
    """Posts to ``/v1/completions``; call it with a server's URL and a body."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def __call__(self, url: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """The completion as one JSON object, as a server that does not stream would send it.

        Raises:
            EngineError: the server is away, refuses, breaks off, or sends something else.
        """
        asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
        address = f"{api_base(url)}/completions"
        try:
            async with self._session.post(address, json=asked) as response:
                if response.status != 200:
                    detail = brief(await response.text())
                    raise EngineError(f"{url}: found status {response.status}: {detail}")
                events = [e async for e in sse_events(response.content.iter_any())]
        except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
            raise EngineError(f"{url}: {error or type(error).__name__}") from error
        return _joined(url, events)


def _joined(url: str, events: list[str]) -> Mapping[str, Any]:
    if not events or events[-1].strip() != "[DONE]":
        raise EngineError(f"{url}: the answer broke off; expected it to end with [DONE]")
    text = ""
    logprobs: list[float | None] = []
    ending: dict[str, Any] = {}
    usage: Mapping[str, Any] = {}
    for event in events[:-1]:
        try:
            chunk = json.loads(event)
            usage = chunk.get("usage") or usage
            for choice in chunk["choices"]:
                text += choice["text"]
                logprobs += (choice.get("logprobs") or {}).get("token_logprobs") or []
                if choice.get("finish_reason"):
                    ending = {k: choice[k] for k in ("finish_reason", "stop_reason") if k in choice}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise EngineError(f"{url}: found no completion: {brief(event)}") from None
    found = {"text": text, "logprobs": {"token_logprobs": logprobs}, **ending}
    return {"choices": [found], "usage": usage}
