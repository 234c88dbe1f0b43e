"""Bombs are refused before they are parsed; what passes is parsed once, and strictly."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_apps.api_error import ApiError
from serve_apps.guard import screen as screening
from serve_apps.guard.screen import read_object, screen
from serve_apps.guard.settings import BodyLimits

LIMITS = BodyLimits()
TEXT = st.text(st.characters(codec="utf-8"), max_size=20) | st.sampled_from(
    ["[[[[", '"', "\\", '\\"', "{", "}]", "," * 9, "9" * 99, "\\\\", "NaN"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(-9, 9) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)
OBJECTS = st.dictionaries(TEXT, JSON, max_size=6)


def refused(body: bytes, limits: BodyLimits = LIMITS) -> ApiError:
    with pytest.raises(ApiError) as error:
        read_object(body, limits)
    return error.value


def depth(value: Any) -> int:
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return 1 + max(map(depth, inner), default=0)
    return 0


@pytest.mark.parametrize(
    ("body", "limit"),
    [
        (b"[" * 100_000, "max_containers"),
        (b"[" * 65, "max_depth"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "max_depth"),
        (b'{"a":[' + b"1," * 600_000 + b"1]}", "max_values"),
        (b'{"a":' + b"9" * 65 + b"}", "max_number_chars"),
        (b'{"a":1e' + b"9" * 70 + b"}", "max_number_chars"),
        (b'{"a":["' + b'","' * 100_000 + b'"]}', "max_strings"),
    ],
)
def test_a_bomb_never_reaches_the_parser(
    body: bytes, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parse(*args: object, **kwargs: object) -> None:
        raise AssertionError("parsed")

    monkeypatch.setattr(screening.json, "loads", parse)
    error = refused(body)
    assert error.status == 400
    assert limit in str(error)


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, "," * 900_000, "9" * 5000, '"' * 1000, "\\" * 1001, '\\"[' * 90_000, "{" * 70],
)
def test_text_that_looks_like_a_bomb_is_text(text: str) -> None:
    fields = {"messages": [{"role": "user", "content": text}], "n": 1}
    assert read_object(json.dumps(fields).encode(), LIMITS) == fields


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-le"])
def test_other_encodings_do_not_hide_brackets(encoding: str) -> None:
    assert refused('{"a": 1}'.encode(encoding)).status == 400


@pytest.mark.parametrize(
    "body",
    [b'{"model": "a", "model": "b"}', b'{"m":[{"x":1,"y":2,"x":3}]}', b'{"a":1,"\\u0061":2}'],
)
def test_a_key_given_twice_is_refused_at_any_depth(body: bytes) -> None:
    assert "given twice" in str(refused(body))


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity"])
def test_what_is_no_number_in_json_is_none_here(number: bytes) -> None:
    assert "is no number" in str(refused(b'{"temperature": ' + number + b"}"))


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"1", b'"x"', b"{", b'{"a" 1}', b"\xff\xfe", b'{"a": "\xff"}', b'{"a":"\\']
)
def test_a_malformed_body_is_a_400_that_shows_none_of_it(body: bytes) -> None:
    error = refused(body)
    assert error.status == 400
    assert error.body["error"]["code"] == "invalid_json"


def test_more_bytes_than_allowed_are_a_413() -> None:
    assert refused(b'{"a": "' + b"x" * 100 + b'"}', BodyLimits(max_bytes=100)).status == 413


@settings(max_examples=50)
@given(OBJECTS, st.booleans(), st.sampled_from([None, 1]))
def test_every_object_inside_the_limits_is_read_as_json_reads_it(
    fields: dict[str, Any], ascii_only: bool, indent: int | None
) -> None:
    body = json.dumps(fields, ensure_ascii=ascii_only, indent=indent).encode()
    assert read_object(body, BodyLimits(max_depth=30)) == fields


@settings(max_examples=50)
@given(OBJECTS, st.integers(1, 4), st.booleans())
def test_depth_is_counted_exactly(fields: dict[str, Any], most: int, ascii_only: bool) -> None:
    body = json.dumps(fields, ensure_ascii=ascii_only).encode()
    limits = BodyLimits(max_depth=most)
    if depth(fields) <= most:
        screen(body, limits)
    else:
        assert "max_depth" in str(refused(body, limits))


@settings(max_examples=50)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 20), st.sampled_from("19.-eE+"))
def test_length_of_numbers_is_counted_exactly(
    most: int, length: int, offset: int, sign: str
) -> None:
    body = b'{"a":' + b" " * offset + sign.encode() * length + b"}"
    limits = BodyLimits(max_number_chars=most)
    if length <= most:
        screen(body, limits)
    else:
        assert "max_number_chars" in str(refused(body, limits))


@settings(max_examples=50)
@given(st.binary(max_size=80) | OBJECTS.map(lambda o: json.dumps(o).encode()[:-1]))
def test_any_bytes_are_an_object_or_a_400(body: bytes) -> None:
    try:
        assert isinstance(read_object(body, LIMITS), dict)
    except ApiError as error:
        assert error.status == 400
