"""What one streamed completion looked like from outside: its tokens, their times, its end."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from profiler.errors import ClusterError, EngineError

Clock = Callable[[], float]


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


class StreamReader:
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
                self._failure = (Outcome.SERVER_ERROR, f"error in the stream: {brief(error)}")
                return True
            content = self._content(data)
        except (ValueError, AttributeError, TypeError, IndexError):
            self._failure = (Outcome.MALFORMED, f"not a completion chunk: {brief(event)}")
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


def brief(value: object) -> str:
    """A value in an error message, at most 200 characters of it."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 200 else text[:197] + "..."
