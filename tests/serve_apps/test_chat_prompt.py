"""What a learned router looks at is read from the same JSON, without a second parse."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_apps.image_size import pixels
from serve_apps.openai_api import read_chat, read_completion
from serve_apps.router.prompts import Prompt

PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 640, 480) + b"\x08"
GIF = b"GIF89a" + struct.pack("<HH", 30, 20)
JPEG = (
    b"\xff\xd8\xff\xe0" + struct.pack(">H", 16) + b"\0" * 14
    + b"\xff\xc0" + struct.pack(">HBHH", 17, 8, 100, 200)
)  # fmt: skip


def data_url(raw: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(raw).decode()}"


def chat(messages: Any, **fields: Any) -> Prompt | None:
    body = json.dumps({"model": "auto", "messages": messages} | fields).encode()
    return read_chat(body, prompts=True).prompt


def test_all_parts_of_a_chat_are_seen() -> None:
    content = [
        {"type": "text", "text": "and this?"},
        {"type": "image_url", "image_url": {"url": data_url(PNG)}},
        {"type": "image_url", "image_url": {"url": "https://example.org/x.png"}},
    ]
    found = chat(
        [
            {"role": "system", "content": "Be brief."},
            {"role": "developer", "content": [{"type": "text", "text": "In French."}]},
            {"role": "user", "content": "What is this?"},
            {"role": "assistant", "content": "A cat."},
            {"role": "user", "content": content},
        ],
        tools=[{}, {}],
        max_tokens=9,
    )
    assert found == Prompt(
        "and this?", "Be brief.\nIn French.", turns=2, tools=2, images=2,
        image_pixels=640 * 480, max_output_tokens=9,
    )  # fmt: skip


def test_nothing_is_read_when_nobody_looks() -> None:
    request = read_chat(b'{"model": "auto", "messages": [{"role": "user", "content": "x"}]}')
    assert (request.prompt, request.session) == (None, None)


@pytest.mark.parametrize(
    ("prompt", "text"),
    [("one", "one"), (["one", "two"], "one\ntwo"), ([1, 2], None), ([[1], [2]], None)],
)
def test_completions_have_a_text_or_token_ids(prompt: Any, text: str | None) -> None:
    body = json.dumps({"model": "auto", "prompt": prompt, "user": "u"}).encode()
    found = read_completion(body, prompts=True).prompt
    assert (found.text if found else None) == text


def test_of_a_very_long_text_the_ends_are_kept() -> None:
    found = chat([{"role": "user", "content": "a" * 10**6 + "?"}])
    assert found is not None
    assert len(found.text) < 70_000
    assert found.text.endswith("?")


@pytest.mark.parametrize(
    ("fields", "session"),
    [({"user": "u"}, "u"), ({"user": "u", "prompt_cache_key": "k"}, "k"), ({"user": 7}, None)],
)
def test_the_session_is_the_cache_key_or_the_user(fields: Any, session: str | None) -> None:
    body = {"model": "auto", "messages": [{"role": "user", "content": "x"}]} | fields
    assert read_chat(json.dumps(body).encode(), prompts=True).session == session


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (data_url(PNG), 640 * 480),
        (data_url(GIF, "gif"), 600),
        (data_url(JPEG, "jpeg"), 20_000),
        (data_url(PNG[:20]), 0),
        (data_url(JPEG[:15], "jpeg"), 0),
        ("data:image/png;base64,!!!!", 0),
        ("https://example.org/a.png", 0),
        ("", 0),
    ],
)
def test_pixels_are_told_from_the_first_bytes(url: str, expected: int) -> None:
    assert pixels(url) == expected


@given(
    st.recursive(
        st.none() | st.text() | st.integers(),
        lambda x: (
            st.lists(x)
            | st.dictionaries(
                st.sampled_from(["role", "content", "type", "text", "image_url", "url"]), x
            )
        ),
    )
)
def test_no_message_breaks_it(message: Any) -> None:
    chat([message, {"role": "user", "content": "x"}, message])
