"""A load client for any OpenAI-compatible endpoint: one streamed request, or a whole trace.

`stream_completion` times the tokens of one request and never raises for what a server does: the
`Outcome` says how it ended. `replay` is open-loop: each request leaves at its arrival time,
whether or not earlier ones were answered, so a slow server meets the load it was meant to meet.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Protocol

import aiohttp
import numpy as np
from numpy.typing import NDArray

from profiler.timing import Clock, Outcome, RequestTiming, StreamReader, brief, sse_events

Message = Mapping[str, Any]
Prompt = str | Sequence[int] | Sequence[Message]
Sleep = Callable[[float], Awaitable[None]]

SAFE_TOKEN_IDS = (1000, 30_000)
"""Token ids that are plain text in every vocabulary of 32,000 or more: byte and control tokens
lie below, and added special tokens above."""

WORDS = (
    "the of and to in is that for it as was with be by on not he his but at are this have from or "
    "had an they which one you were all her she there would their we him been has when who will no "
    "more if out so up said what its about than into them can only"
)
"""Common English words, one token each in most vocabularies."""


KEEPALIVE_S = 2.0
"""Shorter than uvicorn's 5 s, after which a server closes an idle connection: a request sent on
one at that moment would look like an engine that died."""


def open_session(*, timeout_s: float = 600.0) -> aiohttp.ClientSession:
    """A session without a limit on connections: a client-side queue would hide the server's.

    ``timeout_s`` bounds each request as a whole, connecting included.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_S),
        timeout=aiohttp.ClientTimeout(total=timeout_s, sock_connect=min(10.0, timeout_s)),
    )


def random_token_ids(rng: np.random.Generator, tokens: int) -> list[int]:
    """A prompt of exactly ``tokens`` tokens that no prefix cache has seen."""
    ids: list[int] = rng.integers(*SAFE_TOKEN_IDS, size=tokens).tolist()
    return ids


def random_text(rng: np.random.Generator, tokens: int) -> str:
    """A prompt of about ``tokens`` tokens; the server's usage figures tell the true number."""
    return " ".join(rng.choice(WORDS.split(), size=max(tokens, 1)).tolist())


async def stream_completion(
    session: aiohttp.ClientSession,
    url: str,
    model: str,
    prompt: Prompt,
    max_tokens: int,
    *,
    exact_length: bool = False,
    extra: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
    clock: Clock = time.perf_counter,
) -> RequestTiming:
    """Send one streamed request and time its tokens.

    Args:
        session: shared by many requests, see `open_session`.
        url: the server's base, with or without ``/v1``.
        model: the name the server lists in ``/v1/models``.
        prompt: text or token ids go to ``/v1/completions``, messages to ``/v1/chat/completions``.
        max_tokens: the longest answer, in tokens.
        exact_length: ask for exactly ``max_tokens`` tokens and for usage in every chunk; vLLM
            knows these options, a strict OpenAI server may refuse them.
        extra: more fields of the request body.
        headers: more request headers, such as authorization.
        clock: seconds, monotonic.
    """
    path, body = _body(model, prompt, max_tokens, exact_length)
    body.update(extra or {})
    reader = StreamReader(clock, expected_input=len(prompt) if _is_token_ids(prompt) else None)
    sent = clock()
    try:
        async with session.post(f"{api_base(url)}{path}", json=body, headers=headers) as response:
            if response.status != 200:
                return _refusal(sent, response.status, await response.text(), clock())
            async for event in sse_events(response.content.iter_any()):
                if reader.take(event):
                    break
    except (TimeoutError, aiohttp.ServerTimeoutError):
        return reader.ended(sent, Outcome.TIMEOUT, f"{url}: no complete answer in time")
    except aiohttp.ClientConnectorError as error:
        return reader.ended(sent, Outcome.UNREACHABLE, f"{url}: {error.strerror or error}")
    except (aiohttp.ClientError, ConnectionError) as error:
        detail = f"{type(error).__name__}: {error}".removesuffix(": ")
        return reader.ended(sent, Outcome.DIED, f"{url}: connection lost: {detail}")
    return reader.ended(sent)


class Trace(Protocol):
    """Requests in order of arrival; a trace file is one."""

    @property
    def arrival_s(self) -> NDArray[np.float64]:
        """Seconds from the start."""

    @property
    def input_tokens(self) -> NDArray[np.int64]:
        """Prompt tokens."""

    @property
    def output_tokens(self) -> NDArray[np.int64]:
        """Tokens to generate."""


async def replay(
    url: str,
    model: str,
    trace: Trace,
    *,
    rng: np.random.Generator,
    kind: Literal["token_ids", "chat"] = "token_ids",
    prompts: Callable[[int, int], Prompt] | None = None,
    exact_length: bool = True,
    timeout_s: float = 600.0,
    headers: Mapping[str, str] | None = None,
    on_progress: Callable[[RequestTiming, int, int], None] | None = None,
    clock: Clock = time.perf_counter,
    sleep: Sleep = asyncio.sleep,
) -> list[RequestTiming]:
    """Send each request of a trace at its arrival time; never wait for earlier ones.

    Args:
        url: the server's base, with or without ``/v1``.
        model: the name the server lists.
        trace: arrival times and sizes.
        rng: draws the prompts. Equal seeds draw equal prompts, which the prefix cache of an
            engine that has seen them answers faster: give each replay another seed.
        kind: ``token_ids`` for exact prompt lengths on ``/v1/completions``, or ``chat``.
        prompts: (request number, input tokens) -> prompt, instead of random ones.
        exact_length: as in `stream_completion`.
        timeout_s: bounds each request.
        headers: as in `stream_completion`.
        on_progress: called with each finished request, how many are finished, and how many
            there are in all.
        clock: seconds, monotonic.
        sleep: waits some seconds.

    Returns:
        One timing per request, in trace order; times count from the start of the replay, and
        ``due_s`` is the arrival time, so that lateness of this client is counted, not hidden.
    """
    draw = prompts or _drawing(rng, kind)
    total = len(trace.arrival_s)
    work = [
        (float(due), draw(i, int(size)), int(answer))
        for i, (due, size, answer) in enumerate(
            zip(trace.arrival_s, trace.input_tokens, trace.output_tokens, strict=True)
        )
    ]
    finished = 0
    async with open_session(timeout_s=timeout_s) as session:
        start = clock()

        async def send(due: float, prompt: Prompt, answer: int) -> RequestTiming:
            nonlocal finished
            await sleep(max(0.0, due - (clock() - start)))
            timing = await stream_completion(
                session,
                url,
                model,
                prompt,
                answer,
                exact_length=exact_length,
                headers=headers,
                clock=lambda: clock() - start,
            )
            finished += 1
            timing = replace(timing, due_s=due)
            if on_progress is not None:
                on_progress(timing, finished, total)
            return timing

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(send(*item)) for item in work]
    return [task.result() for task in tasks]


def api_base(url: str) -> str:
    """The URL that API paths are appended to, ending in ``/v1``."""
    return f"{server_base(url)}/v1"


def server_base(url: str) -> str:
    """The URL without a trailing ``/v1``, for ``/metrics``, ``/version`` and ``/health``."""
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


def _body(
    model: str, prompt: Prompt, max_tokens: int, exact_length: bool
) -> tuple[str, dict[str, Any]]:
    chat = not isinstance(prompt, str) and not _is_token_ids(prompt)
    options: dict[str, Any] = {"include_usage": True}
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": max_tokens,
        "stream": True,
        "stream_options": options,
        "messages" if chat else "prompt": prompt if isinstance(prompt, str) else list(prompt),
    }
    if exact_length:
        body |= {"ignore_eos": True, "min_tokens": max_tokens}
        options["continuous_usage_stats"] = True
    return "/chat/completions" if chat else "/completions", body


def _is_token_ids(prompt: Prompt) -> bool:
    return not isinstance(prompt, str) and len(prompt) > 0 and isinstance(prompt[0], int)


def _drawing(
    rng: np.random.Generator, kind: Literal["token_ids", "chat"]
) -> Callable[[int, int], Prompt]:
    if kind == "token_ids":
        return lambda _, tokens: random_token_ids(rng, tokens)
    return lambda _, tokens: [{"role": "user", "content": random_text(rng, tokens)}]


def _refusal(sent_s: float, status: int, text: str, ended_s: float) -> RequestTiming:
    match status:
        case 429:
            outcome = Outcome.OVERLOADED
        case _ if status < 500:
            outcome = Outcome.REFUSED
        case _:
            outcome = Outcome.SERVER_ERROR
    try:
        body = json.loads(text)
        detail = (body.get("error") or {}).get("message") or body.get("message") or text
    except (ValueError, AttributeError):
        detail = text
    error = f"HTTP {status}: {brief(detail)}"
    return RequestTiming(sent_s, outcome, error, status, ended_s=ended_s)
