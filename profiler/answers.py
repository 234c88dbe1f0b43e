"""One question to one model over the OpenAI chat API: the answer, its tokens and probabilities.

Nothing here raises for what a server does: an `Answer` without text says in ``error`` why.
Servers differ in the options they take. What one refuses is left out from then on and noted:
token probabilities, the temperature, or the old name of the limit on tokens.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp

from profiler.client import Sleep, api_base
from profiler.timing import Clock, brief

ATTEMPTS = 5
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
LEAST_LOGPROB = -100.0
"""Servers write minus infinity as some huge figure; one token must not rule a mean."""

_PERMANENT = frozenset({401, 403, 404})


@dataclass(frozen=True)
class PoolModel:
    """A model of the pool: its served name, where, and what tokens cost (None where unknown)."""

    name: str
    url: str
    usd_per_input_mtok: float | None = None
    usd_per_output_mtok: float | None = None


@dataclass(frozen=True)
class Answer:
    """What came back. ``text`` is None when nothing did.

    ``logprobs`` holds the natural logarithm of each output token's probability and ``margins``
    the gap in probability between the likeliest two tokens at each step; both are empty where
    the server gives none. ``latency_s`` is sending to last byte of the attempt that succeeded.
    ``model_fault`` marks errors that concern the server and not this question.
    """

    text: str | None = None
    error: str = ""
    model_fault: bool = False
    input_tokens: int | None = None
    output_tokens: int | None = None
    latency_s: float | None = None
    logprobs: tuple[float, ...] = ()
    margins: tuple[float, ...] = ()
    cut: bool = False
    pause_s: float | None = None
    """Seconds to wait before another attempt, where one makes sense."""


@dataclass
class ChatClient:
    """Asks one model; remembers which options its server refuses.

    ``notes`` says in words what was left out.
    """

    session: aiohttp.ClientSession
    url: str
    model: str
    temperature: float = 0.0
    token_probabilities: bool = True
    headers: Mapping[str, str] | None = None
    clock: Clock = time.perf_counter
    sleep: Sleep = asyncio.sleep
    rng: random.Random = field(default_factory=random.Random)
    notes: list[str] = field(default_factory=list)
    _refused: set[str] = field(default_factory=set)
    _logprobs_seen: bool = False

    async def ask(self, messages: Sequence[Mapping[str, str]], max_tokens: int) -> Answer:
        """Ask, again after a growing pause when the server is busy, failing or away."""
        answer = Answer()
        for attempt in range(ATTEMPTS):
            answer = await self._adapting(messages, max_tokens)
            if answer.pause_s is None or attempt == ATTEMPTS - 1:
                break
            backoff_s = FIRST_PAUSE_S * 2**attempt * self.rng.uniform(0.5, 1.0)
            await self.sleep(min(max(backoff_s, answer.pause_s), LONGEST_PAUSE_S))
        return answer

    async def _adapting(self, messages: Sequence[Mapping[str, str]], max_tokens: int) -> Answer:
        """One attempt, and at once another without each option that the server refuses."""
        without: set[str] = set()
        first: Answer | None = None
        while True:
            answer = await self._once(messages, max_tokens, self._refused | without)
            if answer.text is not None or answer.pause_s is not None:
                self._learn(without if answer.text is not None else set())
                return answer
            first = first or answer
            blamed = self._blamed(answer.error, self._refused | without)
            if blamed is None:
                return first
            without.add(blamed)

    def _blamed(self, error: str, without: set[str]) -> str | None:
        """The option a refusal is probably about; probabilities are tried last, without a hint."""
        unsupported = re.search(r"unsupported|not supported|does not support", error, re.I)
        if unsupported and "max_completion_tokens" in error and "max_tokens" not in without:
            return "max_tokens"
        if unsupported and "temperature" in error and "temperature" not in without:
            return "temperature"
        wanted = self.token_probabilities and "logprobs" not in without
        return "logprobs" if wanted and ("logprobs" in error or not self._logprobs_seen) else None

    def _learn(self, without: set[str]) -> None:
        words = {
            "logprobs": "refuses token probabilities",
            "temperature": "refuses a temperature: its own default is used",
        }
        for option in sorted(without - self._refused):
            self._refused.add(option)
            if option in words:
                self.notes.append(words[option])

    async def _once(
        self, messages: Sequence[Mapping[str, str]], max_tokens: int, without: set[str]
    ) -> Answer:
        limit = "max_completion_tokens" if "max_tokens" in without else "max_tokens"
        body: dict[str, Any] = {"model": self.model, "messages": list(messages), limit: max_tokens}
        if "temperature" not in without:
            body["temperature"] = self.temperature
        if self.token_probabilities and "logprobs" not in without:
            body |= {"logprobs": True, "top_logprobs": 2}
        address = f"{api_base(self.url)}/chat/completions"
        sent = self.clock()
        try:
            async with self.session.post(address, json=body, headers=self.headers) as response:
                text = await response.text(errors="replace")
                latency_s = self.clock() - sent
                if response.status != 200:
                    return _refusal(response.status, text, response.headers.get("Retry-After"))
        except TimeoutError:
            return Answer(error=f"{self.url}: no answer in time", model_fault=True, pause_s=0.0)
        except (aiohttp.ClientError, ConnectionError) as error:
            detail = str(error) or type(error).__name__
            return Answer(error=f"{self.url}: {detail}", model_fault=True, pause_s=0.0)
        answer = replace(read_answer(text), latency_s=latency_s)
        self._take_note(answer, asked="logprobs" in body)
        return answer

    def _take_note(self, answer: Answer, *, asked: bool) -> None:
        self._logprobs_seen |= bool(answer.logprobs)
        silent = "gives no token probabilities, though it does not refuse them"
        if asked and answer.text and not answer.logprobs and silent not in self.notes:
            self.notes.append(silent)


def read_answer(text: str) -> Answer:
    """The body of a 200 as an `Answer`; a body of another shape is an error of the server."""
    try:
        body = json.loads(text)
        choice = body["choices"][0]
        content = choice["message"].get("content") or ""
        usage = body.get("usage") or {}
        tokens = (choice.get("logprobs") or {}).get("content") or []
        logprobs = tuple(max(float(token["logprob"]), LEAST_LOGPROB) for token in tokens)
        return Answer(
            text=str(content).encode("utf-8", "replace").decode(),
            input_tokens=_count(usage.get("prompt_tokens")),
            output_tokens=_count(usage.get("completion_tokens")) or len(tokens) or None,
            logprobs=logprobs,
            margins=tuple(_margin(token) for token in tokens),
            cut=choice.get("finish_reason") == "length",
        )
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        shown = f"not a chat completion: {brief(text)}"
        return Answer(error=shown, model_fault=True, pause_s=0.0)


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None


def _margin(token: Mapping[str, Any]) -> float:
    """How much likelier the likeliest token was than the next; NaN where the server lists one."""
    top = sorted(math.exp(min(t["logprob"], 0.0)) for t in token.get("top_logprobs") or ())
    return top[-1] - top[-2] if len(top) > 1 else math.nan


def _refusal(status: int, text: str, retry_after: str | None) -> Answer:
    try:
        body = json.loads(text)
        detail = (body.get("error") or {}).get("message") or body.get("message") or text
    except (ValueError, AttributeError):
        detail = text
    error = f"HTTP {status}: {brief(str(detail))}"
    if status == 429 or status >= 500 or status == 408:
        wait_s = float(retry_after) if retry_after and retry_after.isdigit() else 0.0
        return Answer(error=error, model_fault=True, pause_s=wait_s)
    return Answer(error=error, model_fault=status in _PERMANENT)
