"""A burst of chat requests sent by an OpenAI client, each when the trace says, and its timings."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from profiler.core import Slo
from profiler.errors import ClusterError
from profiler.traces import Trace

if TYPE_CHECKING:
    from openai import AsyncOpenAI

WORDS = (
    *("river", "stone", "market", "window", "garden", "letter", "engine", "bridge", "winter"),
    *("music", "paper", "silver", "mountain", "ocean", "candle", "forest", "pocket", "travel"),
)
CHAT_TEMPLATE_TOKENS = 30  # about what a chat template adds to a prompt


@dataclass
class Answer:
    """One request: when it was due, what came back when. Times in seconds from the start."""

    due_s: float
    first_token_s: float | None = None
    last_token_s: float | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    error: str | None = None
    refused: bool = False  # with 429: the pool was too busy

    @property
    def ttft_s(self) -> float:
        """Arrival to first token; infinite when none came."""
        return np.inf if self.first_token_s is None else self.first_token_s - self.due_s

    @property
    def tpot_s(self) -> float:
        """Mean gap between tokens; NaN for one token, infinite for a failed request."""
        if self.error or self.first_token_s is None or self.last_token_s is None:
            return np.inf
        if self.output_tokens < 2:
            return np.nan
        return (self.last_token_s - self.first_token_s) / (self.output_tokens - 1)


@dataclass
class Burst:
    """All answers so far; counts cover every request that was due."""

    total: int
    answers: list[Answer] = field(default_factory=list)
    sent: int = 0
    sent_s: list[float] = field(default_factory=list)

    @property
    def in_flight(self) -> int:
        """Requests sent and not yet ended."""
        return self.sent - len(self.answers)

    def sent_since(self, first_s: float) -> int:
        """How many were due at ``first_s`` or later, and sent."""
        return sum(due_s >= first_s for due_s in self.sent_s)

    @property
    def failed(self) -> list[Answer]:
        """Requests that ended in an error."""
        return [a for a in self.answers if a.error]

    def column(self, name: str) -> NDArray[np.float64]:
        """One timing of every answer, in order of arrival."""
        ordered = sorted(self.answers, key=lambda a: a.due_s)
        return np.array([getattr(a, name) for a in ordered], dtype=float)

    def attainment(self, slo: Slo) -> float:
        """Share of all requests with both targets met; failed ones count as misses."""
        ttft, tpot = self.column("ttft_s"), self.column("tpot_s")
        met = (ttft <= slo.ttft_s) & ((tpot <= slo.tpot_s) | np.isnan(tpot))
        return float(met.mean())


def prompt_of(tokens: int, rng: np.random.Generator) -> str:
    """A prompt of about so many tokens, unlike any other, so that no cache helps."""
    words = max(4, tokens - CHAT_TEMPLATE_TOKENS)
    return "Tell a story with these words: " + " ".join(rng.choice(WORDS, words - 3))


async def send(
    client: AsyncOpenAI,
    model: str,
    trace: Trace,
    *,
    on_change: Callable[[Burst], None] = lambda _: None,
    seed: int = 0,
) -> Burst:
    """Send each request when it is due, whatever became of the earlier ones (open loop).

    Raises:
        ClusterError: every request failed.
    """
    rng = np.random.default_rng(seed)
    prompts = [prompt_of(int(n), rng) for n in trace.input_tokens]
    burst = Burst(total=len(trace))
    start = time.perf_counter()

    async def one(due_s: float, prompt: str, output_tokens: int) -> None:
        await asyncio.sleep(max(0.0, start + due_s - time.perf_counter()))
        burst.sent += 1
        burst.sent_s.append(due_s)
        on_change(burst)
        burst.answers.append(await _ask(client, model, prompt, output_tokens, due_s, start))
        on_change(burst)

    columns = zip(trace.arrival_s, prompts, trace.output_tokens, strict=True)
    await asyncio.gather(*(one(float(t), p, int(n)) for t, p, n in columns))
    if len(burst.failed) == burst.total:
        raise ClusterError(f"every request failed, the first with: {burst.failed[0].error}")
    return burst


async def _ask(
    client: AsyncOpenAI, model: str, prompt: str, output_tokens: int, due_s: float, start: float
) -> Answer:
    from openai import OpenAIError, RateLimitError

    answer = Answer(due_s)
    exact: dict[str, Any] = {"ignore_eos": True}  # vLLM: answers as long as the trace says
    try:
        stream = await client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": prompt}],
            max_tokens=output_tokens,
            stream=True,
            stream_options={"include_usage": True},
            extra_body=exact,
        )
        async for chunk in stream:
            now = time.perf_counter() - start
            if chunk.choices and chunk.choices[0].delta.content:
                if answer.first_token_s is None:
                    answer.first_token_s = now
                answer.last_token_s = now
            if chunk.usage is not None:
                answer.input_tokens = chunk.usage.prompt_tokens
                answer.output_tokens = chunk.usage.completion_tokens
    except OpenAIError as error:
        answer.error = f"{type(error).__name__}: {error}"
        answer.refused = isinstance(error, RateLimitError)
    return answer
