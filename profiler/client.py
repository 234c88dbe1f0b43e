"""A load client for any OpenAI-compatible endpoint: one streamed request, or a whole trace.

`stream_completion` times the tokens of one request and never raises for what a server does: the
`Outcome` says how it ended. `replay` is open-loop: each request leaves at its arrival time,
whether or not earlier ones were answered, so a slow server meets the load it was meant to meet.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Literal, Protocol

import aiohttp
import numpy as np
from numpy.typing import NDArray

from profiler.errors import ClusterError, EngineError

Message = Mapping[str, Any]
Prompt = str | Sequence[int] | Sequence[Message]
Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]

SAFE_TOKEN_IDS = (1000, 30_000)
"""Token ids that are plain text in every vocabulary of 32,000 or more: byte and control tokens
lie below, and added special tokens above."""

WORDS = ("the of and to in is that for it as was with be by on not he his but at are this have "
         "from or had an they which one you were all her she there would their we him been has "
         "when who will no more if out so up said what its about than into them can only").split()  # fmt: skip


class Outcome(StrEnum):
    """How a request ended; the values are labels for metrics, the error text has the detail."""

    OK = "ok"
    UNREACHABLE = "unreachable"  # nobody listens, or the name does not resolve
    OVERLOADED = "overloaded"  # 429: shed on purpose
    REFUSED = "refused"  # another 4xx
    SERVER_ERROR = "server_error"  # 5xx, or an error event inside the stream
    DIED = "died"  # the stream stopped before its end
    TIMEOUT = "timeout"
    EMPTY = "empty"  # ended cleanly without a token
    MALFORMED = "malformed"  # not the OpenAI stream format
    CONTRADICTORY = "contradictory"  # its usage figures cannot be true


@dataclass(frozen=True)
class RequestTiming:
    """What one request experienced; times are seconds on the caller's clock.

    ``tokens`` holds (time, tokens received by then) for each chunk that brought any.
    ``counted_by`` says where ``output_tokens`` comes from: the server's usage figures, or the
    number of chunks with content, which is too low when a chunk brings several tokens.
    """

    sent_s: float
    outcome: Outcome
    error: str = ""
    status: int | None = None
    tokens: tuple[tuple[float, int], ...] = ()
    ended_s: float | None = None
    input_tokens: int | None = None
    output_tokens: int = 0
    counted_by: Literal["usage", "chunks"] = "chunks"
    due_s: float | None = None
    text: str = ""

    @property
    def first_token_s(self) -> float | None:
        """When the first token came; None when none did."""
        return self.tokens[0][0] if self.tokens else None

    @property
    def last_token_s(self) -> float | None:
        """When the last token came; None when none did."""
        return self.tokens[-1][0] if self.tokens else None

    @property
    def ttft_s(self) -> float | None:
        """Due time (or sending, where none was set) to first token; None unless it came."""
        start = self.sent_s if self.due_s is None else self.due_s
        return None if self.first_token_s is None else self.first_token_s - start

    @property
    def tpot_s(self) -> float | None:
        """(last token - first token) / (output tokens - 1); None for fewer than two tokens."""
        if self.first_token_s is None or self.last_token_s is None or self.output_tokens < 2:
            return None
        return (self.last_token_s - self.first_token_s) / (self.output_tokens - 1)

    def meets(self, ttft_s: float, tpot_s: float) -> bool:
        """Answered in full, and inside both limits."""
        if self.outcome is not Outcome.OK or self.ttft_s is None:
            return False
        return self.ttft_s <= ttft_s and (self.tpot_s is None or self.tpot_s <= tpot_s)


def open_session(*, timeout_s: float = 600.0) -> aiohttp.ClientSession:
    """A session without a limit on connections: a client-side queue would hide the server's.

    ``timeout_s`` bounds each request as a whole, connecting included.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=timeout_s, sock_connect=min(10.0, timeout_s)),
    )


def random_token_ids(rng: np.random.Generator, tokens: int) -> list[int]:
    """A prompt of exactly ``tokens`` tokens that no prefix cache has seen."""
    ids: list[int] = rng.integers(*SAFE_TOKEN_IDS, size=tokens).tolist()
    return ids


def random_text(rng: np.random.Generator, tokens: int) -> str:
    """A prompt of about ``tokens`` tokens: common English words, one token each in most
    vocabularies. The server's usage figures tell the true number."""
    return " ".join(rng.choice(WORDS, size=max(tokens, 1)).tolist())


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
    reader = _Reader(clock, expected_input=len(prompt) if _is_token_ids(prompt) else None)
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
        rng: draws the prompts.
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


def raise_for(timing: RequestTiming, url: str) -> None:
    """Turn a failed request into the error a user should read; do nothing for a good one.

    Raises:
        EngineError: the server died, failed, or answered nonsense.
        ClusterError: the server is not there, is overloaded, or refuses the request.
    """
    mend = {
        Outcome.UNREACHABLE: "check that the engine runs and that the URL and port are right",
        Outcome.OVERLOADED: "it sheds load: wait until it is idle, or raise its queue limit",
        Outcome.REFUSED: "check the model name, the context length and the API key",
        Outcome.TIMEOUT: "the engine hangs or is far too slow: look at its log",
    }
    if timing.outcome is Outcome.OK:
        return
    message = f"{url}: {timing.outcome}: {timing.error.removeprefix(f'{url}: ')}; "
    if timing.outcome in mend:
        raise ClusterError(message + mend[timing.outcome])
    raise EngineError(message + "look at the engine's log, then start it again")


def api_base(url: str) -> str:
    """The URL that API paths are appended to, ending in ``/v1``."""
    return f"{server_base(url)}/v1"


def server_base(url: str) -> str:
    """The URL without a trailing ``/v1``, for ``/metrics``, ``/version`` and ``/health``."""
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


async def sse_events(chunks: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """The data of each server-sent event, from bytes cut at any place.

    Lines end in LF or CRLF; several ``data`` lines of one event are joined by LF; comments and
    other fields are skipped. An event that the stream's end cuts off is dropped, as the HTML
    standard's event-stream parser does.
    """
    buffer = b""
    data: list[str] = []
    async for chunk in chunks:
        buffer += chunk
        *lines, buffer = buffer.split(b"\n")
        for raw in lines:
            line = raw.removesuffix(b"\r")
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" ").decode("utf-8", errors="replace"))
            elif not line and data:
                yield "\n".join(data)
                data = []


class _Reader:
    """Reads the events of one completion stream and counts what they bring."""

    def __init__(self, clock: Clock, *, expected_input: int | None) -> None:
        self._clock = clock
        self._expected_input = expected_input
        self._tokens: list[tuple[float, int]] = []
        self._text: list[str] = []
        self._content_chunks = 0
        self._usage: Mapping[str, Any] = {}
        self._finished = False
        self._failure: tuple[Outcome, str] | None = None

    def take(self, event: str) -> bool:
        """Read one event; True when nothing after it matters."""
        now = self._clock()
        if event == "[DONE]":
            self._finished = True
            return True
        try:
            data = json.loads(event)
            if error := data.get("error"):
                self._failure = (Outcome.SERVER_ERROR, f"error in the stream: {_brief(error)}")
                return True
            content = self._content(data)
        except (ValueError, AttributeError, TypeError, IndexError):
            self._failure = (Outcome.MALFORMED, f"not a completion chunk: {_brief(event)}")
            return True
        self._usage = data.get("usage") or self._usage
        self._content_chunks += bool(content)
        told = (data.get("usage") or {}).get("completion_tokens")
        seen = self._tokens[-1][1] if self._tokens else 0
        count = told if isinstance(told, int) else seen + bool(content)
        if count > seen and data.get("choices"):
            self._tokens.append((now, count))
        return False

    def ended(
        self, sent_s: float, outcome: Outcome | None = None, error: str = ""
    ) -> RequestTiming:
        """The timing of the request; how it ended follows from what was read unless given."""
        count, counted_by = self._count()
        if outcome is None:
            outcome, error = self._failure or self._verdict(count)
        return RequestTiming(
            sent_s=sent_s,
            outcome=outcome,
            error=error,
            status=None if outcome is Outcome.UNREACHABLE else 200,
            tokens=tuple(self._tokens),
            ended_s=self._clock(),
            input_tokens=self._usage.get("prompt_tokens"),
            output_tokens=count,
            counted_by=counted_by,
            text="".join(self._text),
        )

    def _content(self, data: dict[str, Any]) -> str:
        """The text a chunk brings; a role alone is none."""
        choices = data.get("choices") or []
        if not choices:
            return ""
        choice = choices[0]
        self._finished |= choice.get("finish_reason") is not None
        delta = choice.get("delta") or {}
        text = choice.get("text") or delta.get("content") or ""
        self._text.append(text)
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")
        return text or reasoning or ("tool" if delta.get("tool_calls") else "")

    def _count(self) -> tuple[int, Literal["usage", "chunks"]]:
        told = self._usage.get("completion_tokens")
        if isinstance(told, int):
            return told, "usage"
        return self._tokens[-1][1] if self._tokens else 0, "chunks"

    def _verdict(self, count: int) -> tuple[Outcome, str]:
        told_input = self._usage.get("prompt_tokens")
        if not self._finished:
            return Outcome.DIED, f"the stream stopped after {count} tokens, before its end"
        if count < self._content_chunks:
            return Outcome.CONTRADICTORY, (
                f"usage says {count} output tokens, but {self._content_chunks} chunks had content"
            )
        if None not in (self._expected_input, told_input) and told_input != self._expected_input:
            return Outcome.CONTRADICTORY, (
                f"usage says {told_input} input tokens, but {self._expected_input} were sent"
            )
        if not self._tokens:
            return Outcome.EMPTY, "the stream ended without a token"
        return Outcome.OK, ""


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
    error = f"HTTP {status}: {_brief(detail)}"
    return RequestTiming(sent_s, outcome, error, status, ended_s=ended_s)


def _brief(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 200 else text[:197] + "..."
