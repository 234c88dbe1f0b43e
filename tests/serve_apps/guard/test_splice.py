"""Members are cut out or replaced, and every other byte stays as it was sent."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_apps.guard.splice import replace, strip

SPACE = st.text(" \t\n\r", max_size=3)
KEYS = st.sampled_from(["model", "priority", "api_base", "a", "é", 'quote"', "\\", "{", ""])
RAW = st.sampled_from(
    ["1", "1.0e400", "-0", "1E+2", '"\\ud800"', '"\\u0061"', '"a,b}"', '"\\\\"', '"\\""', "[]",
     "{ }", '[ 1 ,{"priority":2} ]', '{"api_base": "http://x"}', "null", '"日本"']
)  # fmt: skip


@st.composite
def written(draw: st.DrawFn) -> tuple[str, list[tuple[str, str, str]]]:
    """A JSON object as a person might write it: its opening, and (key, raw member, separator)."""
    keys = draw(st.lists(KEYS, max_size=6, unique=True))
    opening = draw(SPACE) + "{" + draw(SPACE)
    members = []
    for i, key in enumerate(keys):
        name = json.dumps(key, ensure_ascii=draw(st.booleans()))
        member = name + draw(SPACE) + ":" + draw(SPACE) + draw(RAW)
        comma = "," if i < len(keys) - 1 else ""
        members.append((key, member, draw(SPACE) + comma + draw(SPACE)))
    return opening, members


def whole(opening: str, members: list[tuple[str, str, str]]) -> bytes:
    return (opening + "".join(m + s for _, m, s in members) + "}").encode()


@settings(max_examples=50)
@given(written(), st.sets(KEYS))
def test_the_rest_parses_to_the_same_and_every_member_keeps_its_bytes(
    parts: tuple[str, list[tuple[str, str, str]]], keys: set[str]
) -> None:
    body = whole(*parts)
    result = strip(body, keys)
    before: dict[str, Any] = json.loads(body)
    assert json.loads(result) == {k: v for k, v in before.items() if k not in keys}
    at = 0
    for key, member, _ in parts[1]:
        if key not in keys:
            at = result.index(member.encode(), at) + len(member.encode())


@settings(max_examples=50)
@given(written())
def test_without_anything_to_cut_the_body_is_the_same(
    parts: tuple[str, list[tuple[str, str, str]]],
) -> None:
    body = whole(*parts)
    assert strip(body, {"not there"}) == body
    assert strip(body, ()) == body


@settings(max_examples=50)
@given(written(), st.sampled_from(["m", 'a"b', "é"]))
def test_a_value_is_replaced_and_nothing_else(
    parts: tuple[str, list[tuple[str, str, str]]], model: str
) -> None:
    body = whole(*parts)
    before = json.loads(body)
    after = json.loads(replace(body, {"model": model}))
    assert after == (before | {"model": model} if "model" in before else before)


@pytest.mark.parametrize(
    ("body", "left"),
    [
        (b'{"a": 1,  "b": 2,\n "c": 3}', b'{"a": 1,  "c": 3}'),
        (b'{"b": 2, "a": 1}', b'{"a": 1}'),
        (b'{"a": 1 , "b": 2 }', b'{"a": 1 }'),
        (b'{ "b": 2 }', b"{  }"),
        (b'{"a": {"b": 1}, "b": 2}', b'{"a": {"b": 1}}'),
        (b'{"\\u0062": 2, "a": 1e999}', b'{"a": 1e999}'),
    ],
)
def test_cutting_looks_as_one_would_do_it_by_hand(body: bytes, left: bytes) -> None:
    assert strip(body, {"b"}) == left
