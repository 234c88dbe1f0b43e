"""Grammars, regular expressions and schemas that clients send: small ones only.

An engine compiles them before it makes a token, so their size, and the repetitions they ask for,
are what one request can cost all others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from serve_apps.api_error import ApiError
from serve_apps.guard.settings import BodyLimits

_REGEX_KEYS = frozenset({"regex", "pattern", "whitespace_pattern", "guided_regex"})
_GRAMMAR_KEYS = frozenset({"grammar", "guided_grammar", "definition"})
_REPEAT_KEYS = frozenset(
    {"minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"}
)
_BRACES = re.compile(r"\{\s*(\d*)\s*(?:,\s*(\d*)\s*)?\}")


def check_grammar(name: str, value: Any, limits: BodyLimits) -> None:
    """A field that an engine compiles; ``name`` is the field's.

    Raises:
        ApiError: 400, too large, or it asks for too many repetitions.
    """
    size = len(value) if isinstance(value, str) else len(json.dumps(value))
    if size > limits.max_grammar_bytes:
        raise _bad(name, f"{size:,} bytes, expected at most {limits.max_grammar_bytes:,}")
    if isinstance(value, str) and name == "guided_json":
        value = _parsed(value)
    for key, inner in _leaves(name, value):
        if isinstance(inner, str) and (key in _REGEX_KEYS or key in _GRAMMAR_KEYS):
            _check_text(name, key, inner, limits)
        elif key in _REPEAT_KEYS and isinstance(inner, int | float) and inner > limits.max_repeat:
            raise _bad(name, f"{key} of {inner:g}, expected at most {limits.max_repeat:,}")


def _check_text(name: str, key: str, text: str, limits: BodyLimits) -> None:
    if key in _REGEX_KEYS and len(text) > limits.max_regex_chars:
        most = f"expected at most {limits.max_regex_chars:,}"
        raise _bad(name, f"a regular expression of {len(text):,} characters, {most}")
    product = 1
    for match in _BRACES.finditer(text):
        product *= max([int(n[:12]) for n in match.groups() if n], default=1) or 1
        if product > limits.max_repeat:
            most = f"expected at most {limits.max_repeat:,} in all"
            raise _bad(name, f"repetitions that multiply to {product:,} or more, {most}")


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Every value that is no list or mapping, with the key it stands under.

    A string that holds a schema of its own is opened: vLLM takes ``structured_outputs.json`` so.
    """
    todo = [(key, value)]
    while todo:
        key, value = todo.pop()
        if isinstance(value, dict):
            todo += value.items()
        elif isinstance(value, list):
            todo += [(key, v) for v in value]
        elif key in ("json", "structural_tag") and isinstance(value, str):
            todo.append(("", _parsed(value)))
        else:
            yield key, value


def _parsed(text: str) -> Any:
    """A schema written as text; what is none is the engine's to refuse."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _bad(name: str, found: str) -> ApiError:
    message = f"{name!r} has {found} on this service"
    return ApiError(400, message, param=name, code="invalid_value")
