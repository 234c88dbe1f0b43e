"""What an emulated engine reads of a request: its size, and how much it is to answer."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from profiler.core import NonNegative, Noun, Positive
from profiler.prompt_size import chat_tokens, prompt_tokens

COMPLETION_MAX_TOKENS = 16
"""vLLM's default of ``max_tokens`` for ``/v1/completions``."""
MAX_CHOICES = 128


class Refusal(Exception):  # noqa: N818  # as the ingress's `Refused`: an answer, no failure
    """An answer other than success, in vLLM's shape."""

    def __init__(
        self, status: int, message: str, kind: str = "BadRequestError", param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        error = {"message": message, "type": kind, "param": param, "code": status}
        self.body = json.dumps({"error": error}).encode()


class Outputs(Noun):
    """How long answers are where their request does not say: lognormal."""

    mean_tokens: Positive = 256.0
    cv: NonNegative = 1.0

    def draw(self, body: bytes, index: int) -> int:
        """Tokens of an answer, at least 1; the same for the same body."""
        digest = hashlib.blake2b(body, digest_size=8, salt=index.to_bytes(8, "little")).digest()
        uniform = (int.from_bytes(digest, "little") + 0.5) / 2**64
        variance = math.log1p(self.cv**2)
        if variance == 0:
            return max(1, round(self.mean_tokens))
        normal = NormalDist(math.log(self.mean_tokens) - variance / 2, math.sqrt(variance))
        return max(1, round(math.exp(normal.inv_cdf(min(max(uniform, 1e-12), 1 - 1e-12)))))


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer to write: its size, and why it ends."""

    prompt_tokens: int
    output_tokens: int
    finish_reason: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that can be answered."""

    chat: bool
    stream: bool
    usage_at_end: bool
    usage_always: bool
    prompts: int
    choices: tuple[Choice, ...]

    @property
    def prompt_tokens(self) -> int:
        """Of all prompts; several choices share one."""
        each = len(self.choices) // self.prompts
        return sum(c.prompt_tokens for c in self.choices[::each])


class Reader:
    """Reads bodies for one model of one context length."""

    def __init__(self, model: str, max_tokens: int, outputs: Outputs) -> None:
        """``max_tokens``: prompt and answer of the longest request that the engine can hold."""
        self._model = model
        self._max = max_tokens
        self._outputs = outputs

    def read(self, body: bytes, *, chat: bool) -> Asked:
        """
        Raises:
            Refusal: 400 for what is malformed or too long, 404 for another model.
        """
        fields = _object(body)
        model = fields.get("model", self._model)
        if model != self._model:
            raise Refusal(404, f"The model `{model}` does not exist.", "NotFoundError", "model")
        prompts = _chat_prompts(fields) if chat else _prompts(fields)
        copies = _integer(fields, "n", 1, 1, MAX_CHOICES)
        choices: list[Choice] = []
        for tokens in prompts:
            for _ in range(copies):
                choices.append(self._choice(fields, body, tokens, len(choices), chat=chat))
        options = fields.get("stream_options") or {}
        if not isinstance(options, dict):
            raise Refusal(400, "stream_options: expected an object", param="stream_options")
        return Asked(
            chat,
            bool(fields.get("stream")),
            bool(options.get("include_usage")),
            bool(options.get("include_usage") and options.get("continuous_usage_stats")),
            len(prompts),
            tuple(choices),
        )

    def _choice(
        self, fields: dict[str, Any], body: bytes, prompt: int, index: int, *, chat: bool
    ) -> Choice:
        room = self._max - prompt
        default = room if chat else min(room, COMPLETION_MAX_TOKENS)
        name = "max_completion_tokens" if chat and fields.get("max_completion_tokens") else ""
        limit = _integer(fields, name or "max_tokens", default, 1, None)
        if room < 1 or limit > room:
            raise Refusal(
                400,
                f"This model's maximum context length is {self._max} tokens. However, you "
                f"requested {max(limit, 1)} output tokens and your prompt contains {prompt} input "
                f"tokens, for a total of {prompt + max(limit, 1)} tokens. Please reduce the "
                "length of the input prompt or the number of requested output tokens.",
                param="input_tokens",
            )
        if fields.get("ignore_eos"):
            return Choice(prompt, limit, "length")
        least = _integer(fields, "min_tokens", 0, 0, limit)
        drawn = max(least, self._outputs.draw(body, index))
        return Choice(prompt, min(drawn, limit), "stop" if drawn < limit else "length")


def _object(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"the body is not valid JSON: {error}") from None
    if not isinstance(fields, dict):
        raise Refusal(400, "the body is not a JSON object")
    return fields


def _chat_prompts(fields: dict[str, Any]) -> list[int]:
    messages = fields.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refusal(400, "messages: expected a non-empty list", param="messages")
    return [max(1, chat_tokens(messages))]


def _prompts(fields: dict[str, Any]) -> list[int]:
    """Sizes of a text, of token ids, or of each of several of either."""
    prompt = fields.get("prompt")
    if not isinstance(prompt, str | list) or prompt == []:
        raise Refusal(400, "prompt: expected text, token ids, or a list of either", param="prompt")
    if isinstance(prompt, str) or isinstance(prompt[0], int):
        return [max(1, prompt_tokens(prompt))]
    return [max(1, prompt_tokens(p) if isinstance(p, str | list) else 1) for p in prompt]


def _integer(fields: dict[str, Any], name: str, default: int, least: int, most: int | None) -> int:
    value = fields.get(name)
    if value is None:
        return default
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        upto = "" if most is None else f", at most {most}"
        raise Refusal(400, f"{name}: expected a whole number, at least {least}{upto}", param=name)
    return int(value)
