"""JSON bombs, found in the bytes before anything parses them; then one parse.

Most bodies pass by a few counts. From the rest strings are cut out, at the speed of `bytes.replace`
and `bytes.split`; what is left is small, and tells nesting, number of values and long numbers.
"""

from __future__ import annotations

import json
from itertools import accumulate
from typing import Any

from serve_apps.api_error import ApiError
from serve_apps.guard.settings import BodyLimits

_NOT_BRACKETS = bytes(b for b in range(256) if b not in b"[]{}")
_NOT_MARKS = bytes(b for b in range(256) if b not in b'[{,"')
_DIGIT = b"0"
_NUMBERS_AS_ZEROS = bytes.maketrans(b"123456789.+-eE", _DIGIT * 14)
_STEP = [0] * 256
for _b, _by in ((b"[", 1), (b"{", 1), (b"]", -1), (b"}", -1)):
    _STEP[_b[0]] = _by


def read_object(body: bytes, limits: BodyLimits) -> dict[str, Any]:
    """The JSON object in a body: screened, parsed once, with no key given twice anywhere.

    Raises:
        ApiError: 400, it is no JSON object or beyond a limit; 413, too many bytes.
    """
    screen(body, limits)
    try:
        fields = _DECODER.decode(body.decode(json.detect_encoding(body), "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise _invalid(f"the body is not valid JSON: {_without_body(error)}") from None
    if not isinstance(fields, dict):
        raise _invalid(f"the body is a {type(fields).__name__}, expected a JSON object")
    return fields


def screen(body: bytes, limits: BodyLimits) -> None:
    """Refuse what would be dear to parse. What passes may still be no JSON.

    Raises:
        ApiError: 400, beyond a limit; 413, too many bytes.
    """
    if len(body) > limits.max_bytes:
        raise too_large(limits.max_bytes)
    if b"\0" in body:  # no JSON in UTF-8 has one; UTF-16 and UTF-32 would hide brackets
        raise _invalid("the body is not UTF-8 text")
    if _surely_small(body, limits):
        return
    rest = body
    if b"\\\\" in rest:
        rest = rest.replace(b"\\\\", b"")  # in pairs from the left, as strings are read
    if b'\\"' in rest:
        rest = rest.replace(b'\\"', b"")
    if rest.count(b'"') > 2 * limits.max_strings:
        raise _beyond("max_strings", limits.max_strings, "strings")
    skeleton = b"".join(rest.split(b'"')[::2])
    _check_size(skeleton, limits)
    if _long_number(skeleton, limits):
        raise _beyond("max_number_chars", limits.max_number_chars, "digits in a number")


def _surely_small(body: bytes, limits: BodyLimits) -> bool:
    """Whether no limit is passed even if nothing in the body were text: most requests."""
    marks = body.translate(None, _NOT_MARKS)  # one pass, where each count would be another
    containers = marks.count(b"[") + marks.count(b"{")
    return (
        containers <= limits.max_depth
        and containers + marks.count(b",") <= limits.max_values
        and marks.count(b'"') <= 2 * limits.max_strings
        and not _long_number(body, limits)
    )


def _check_size(skeleton: bytes, limits: BodyLimits) -> None:
    containers = skeleton.count(b"[") + skeleton.count(b"{")
    if containers > limits.max_containers:
        raise _beyond("max_containers", limits.max_containers, "lists and mappings")
    if containers + skeleton.count(b",") > limits.max_values:
        raise _beyond("max_values", limits.max_values, "values")
    if containers > limits.max_depth:
        brackets = skeleton.translate(None, _NOT_BRACKETS)
        if max(accumulate(map(_STEP.__getitem__, brackets)), default=0) > limits.max_depth:
            raise _beyond("max_depth", limits.max_depth, "levels of nesting")


def _long_number(text: bytes, limits: BodyLimits) -> bool:
    """A run of more number characters than allowed; every eighth is looked at first."""
    run = limits.max_number_chars + 1
    stride = max(1, run // 8)
    if _DIGIT * (run // stride) not in text[::stride].translate(_NUMBERS_AS_ZEROS):
        return False
    return _DIGIT * run in text.translate(_NUMBERS_AS_ZEROS)


def too_large(limit_bytes: int) -> ApiError:
    """The answer to a body of more bytes than allowed."""
    message = f"the body is larger than {limit_bytes:,} bytes"
    return ApiError(413, message, code="body_too_large")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A mapping; parsers differ in which of two equal keys they believe, so there are no two."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _invalid(f"the key {twice[:60]!r} is given twice in one object")
    return found


def _no_constant(name: str) -> float:
    raise _invalid(f"the body is not valid JSON: {name} is no number")


_DECODER = json.JSONDecoder(object_pairs_hook=_distinct, parse_constant=_no_constant)
"""As `json.loads` makes one, which it would for each body."""


def _without_body(error: Exception) -> str:
    """What is wrong and where, without the text itself."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos}"
    if isinstance(error, UnicodeDecodeError):
        return f"no UTF-8 at byte {error.start}"
    return "nested too deeply" if isinstance(error, RecursionError) else "a number is too long"


def _beyond(limit: str, most: int, what: str) -> ApiError:
    return ApiError(400, f"the body has more than {most:,} {what} ({limit})", code="body_too_large")


def _invalid(message: str) -> ApiError:
    return ApiError(400, message, code="invalid_json")
