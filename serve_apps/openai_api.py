"""What the ingress reads of an OpenAI request, and how it says no.

Only the fields that routing needs are read and checked; everything else belongs to the engine,
which knows its own API better than any copy of it.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from typing import Any

from profiler.prompt_size import chat_tokens, prompt_tokens
from serve_apps.api_error import ApiError
from serve_apps.chat_prompt import chat_prompt, completion_text
from serve_apps.guard.splice import replace
from serve_apps.router.prompts import Prompt

PREFIX_CHARS = 512
"""Prompts that are alike so far are taken to share a prefix."""
MOST_ANSWERS = 1_000_000
"""To a prompt; more is nonsense, whatever limit the guard sets."""
_KEY = b'"model"'
_VALUE = re.compile(rb'[ \t\n\r]*:[ \t\n\r]*("(?:[^"\\]|\\.)*")')
_ESCAPED = b"\\u006"
"""How JSON's escapes of the letters of ``model`` begin; a key with one is not found by bytes."""


@dataclasses.dataclass(slots=True)  # not frozen: that would take three times as long to make
class ApiRequest:
    """The part of a request that routing needs; ``prompt`` only where it was asked for."""

    model: str
    stream: bool
    input_tokens: int
    max_output_tokens: int | None
    prompt: Prompt | None = None
    session: str | None = None
    prefix: int | None = None
    answers: int = 1
    """How many are asked for at once: prompts times ``n`` (or ``best_of``, if more)."""


def chat_request(fields: dict[str, Any], *, prompts: bool = False) -> ApiRequest:
    """Read a ``/v1/chat/completions`` body; with ``prompts`` also what a learned router looks at.

    Raises:
        ApiError: 400, naming the parameter that is missing or has the wrong type.
    """
    model = _model(fields)
    messages = fields.get("messages")
    if not isinstance(messages, list) or not messages:
        raise _bad("messages", "a non-empty list of messages", fields)
    tokens = chat_tokens(messages)
    limit = _max_tokens(fields)
    prompt = chat_prompt(fields, limit) if prompts else None
    first = messages[0].get("content") if isinstance(messages[0], dict) else None
    return _request(fields, model, tokens, limit, prompt, first)


def completion_request(fields: dict[str, Any], *, prompts: bool = False) -> ApiRequest:
    """Read a ``/v1/completions`` body; as `chat_request`. Token ids have no text to look at.

    Raises:
        ApiError: 400, naming the parameter that is missing or has the wrong type.
    """
    model = _model(fields)
    prompt = fields.get("prompt")
    if not isinstance(prompt, str | list) or prompt == []:
        raise _bad("prompt", "text, token ids, or a list of either", fields)
    limit = _max_tokens(fields)
    text = completion_text(prompt) if prompts else None
    seen = Prompt(text, max_output_tokens=limit) if text is not None else None
    return _request(fields, model, prompt_tokens(prompt), limit, seen, prompt, _prompts(prompt))


def read_chat(body: bytes, *, prompts: bool = False) -> ApiRequest:
    """`chat_request` of a body.

    Raises:
        ApiError: 400, as there, or no JSON object.
    """
    return chat_request(parse_object(body), prompts=prompts)


def read_completion(body: bytes, *, prompts: bool = False) -> ApiRequest:
    """`completion_request` of a body.

    Raises:
        ApiError: 400, as there, or no JSON object.
    """
    return completion_request(parse_object(body), prompts=prompts)


def with_model(body: bytes, model: str) -> bytes:
    """A body that was read, with the model replaced and every other character as it was sent.

    What the client wrote may have no equal in Python's terms (numbers beyond a float, halves of
    surrogate pairs), so nothing is decoded and encoded anew.
    """
    if body.count(_KEY) == 1 and _ESCAPED not in body and b"\0" not in body[:4]:
        value = _VALUE.match(body, body.index(_KEY) + len(_KEY))
        if value is not None:
            start, end = value.span(1)
            return b"".join((body[:start], _quoted(model), body[end:]))
    return replace(body, {"model": model})


@functools.lru_cache
def _quoted(model: str) -> bytes:
    return json.dumps(model).encode()


def parse_object(body: bytes) -> dict[str, Any]:
    """A body's JSON object.

    Raises:
        ApiError: 400, it is none.
    """
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"the body is not valid JSON: {error}", code="invalid_json") from None
    if not isinstance(fields, dict):
        found = type(fields).__name__
        raise ApiError(400, f"the body is {found}, expected a JSON object", code="invalid_json")
    return fields


def _model(fields: dict[str, Any]) -> str:
    model = fields.get("model")
    if not isinstance(model, str) or not model:
        raise _bad("model", "the name of a model, see GET /v1/models", fields)
    return model


def _request(
    fields: dict[str, Any],
    model: str,
    input_tokens: int,
    limit: int | None,
    prompt: Prompt | None,
    first: Any,
    prompts: int = 1,
) -> ApiRequest:
    stream = fields.get("stream")
    if not isinstance(stream, bool | None):
        raise _bad("stream", "true or false", fields)
    prefix = hash(first[:PREFIX_CHARS]) if isinstance(first, str) and first else None
    answers = prompts * _width(fields)
    return ApiRequest(
        model, bool(stream), max(1, input_tokens), limit, prompt, _session(fields), prefix, answers
    )


def _prompts(prompt: str | list[Any]) -> int:
    """How many prompts there are: one list of token ids is one."""
    return 1 if isinstance(prompt, str) or isinstance(prompt[0], int) else len(prompt)


def _width(fields: dict[str, Any]) -> int:
    """Answers to each prompt. What is no such number is the engine's to refuse."""
    told = (fields.get("n"), fields.get("best_of"))
    if told == (None, None):
        return 1
    numbers = [v for v in told if isinstance(v, int | float) and 1 <= v <= MOST_ANSWERS]
    return int(max(numbers, default=1))


def _session(fields: dict[str, Any]) -> str | None:
    """What tells a conversation: the key made for it, else who asks."""
    for name in ("prompt_cache_key", "user"):
        found = fields.get(name)
        if isinstance(found, str) and found:
            return found
    return None


def _max_tokens(fields: dict[str, Any]) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        limit = fields.get(name)
        if limit is None:
            continue
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
            raise _bad(name, "a whole number of tokens", fields)
        return limit
    return None


def _bad(param: str, expected: str, fields: dict[str, Any]) -> ApiError:
    if param not in fields:
        return ApiError(
            400,
            f"missing {param!r}: expected {expected}",
            param=param,
            code="missing_required_parameter",
        )
    found = json.dumps(fields[param])
    shown = found if len(found) <= 60 else found[:57] + "..."
    message = f"{param!r} is {shown}, expected {expected}"
    return ApiError(400, message, param=param, code="invalid_value")
