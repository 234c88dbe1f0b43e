"""Reading a request takes what routing needs, and refuses the rest in OpenAI's shape."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.prompt_size import IMAGE_TOKENS
from serve_apps.openai_api import ApiError, read_chat, read_completion, with_model

MESSAGES = [{"role": "user", "content": "x" * 40}]


def chat(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "messages": MESSAGES} | fields).encode()


def completion(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "prompt": "x" * 40} | fields).encode()


def test_reads_model_stream_and_sizes() -> None:
    request = read_chat(chat(stream=True, max_tokens=7))
    assert (request.model, request.stream) == ("m", True)
    assert (request.input_tokens, request.max_output_tokens) == (10, 7)


def test_the_newer_name_of_the_limit_wins() -> None:
    assert read_chat(chat(max_tokens=7, max_completion_tokens=9)).max_output_tokens == 9
    assert read_chat(chat(max_tokens=None)).max_output_tokens is None


@pytest.mark.parametrize(
    ("body", "answers"),
    [
        (chat(), 1),
        (chat(n=4), 4),
        (chat(n=2.0), 2),
        (chat(n=None), 1),
        (chat(n="many"), 1),
        (chat(n=10**30), 1),
        (completion(n=2, best_of=5), 5),
        (completion(prompt=["a", "b", "c"], n=2), 6),
        (completion(prompt=[1, 2, 3]), 1),
        (completion(prompt=[[1, 2], [3]], n=2), 4),
    ],
)
def test_answers_are_prompts_times_n(body: bytes, answers: int) -> None:
    read = read_completion if b'"prompt"' in body else read_chat
    assert read(body).answers == answers


def test_content_parts_count_text_and_images() -> None:
    parts = [{"type": "text", "text": "x" * 8}, {"type": "image_url", "image_url": {"url": "u"}}]
    request = read_chat(chat(messages=[{"role": "user", "content": parts}]))
    assert request.input_tokens == 2 + IMAGE_TOKENS


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [("x" * 40, 10), (["x" * 4, "x" * 4], 2), ([1, 2, 3], 3), ([[1, 2], [3]], 3), ("", 1)],
)
def test_prompts_of_every_form_are_sized(prompt: Any, tokens: int) -> None:
    assert read_completion(completion(prompt=prompt)).input_tokens == tokens


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        (b"{", None, "invalid_json"),
        (b"\xff\xfe", None, "invalid_json"),
        (b"[" * 100_000, None, "invalid_json"),
        (b"[1]", None, "invalid_json"),
        (b'{"messages": []}', "model", "missing_required_parameter"),
        (chat(model=3), "model", "invalid_value"),
        (chat(model=""), "model", "invalid_value"),
        (b'{"model": "m"}', "messages", "missing_required_parameter"),
        (chat(messages="hi"), "messages", "invalid_value"),
        (chat(messages=[]), "messages", "invalid_value"),
        (chat(stream="yes"), "stream", "invalid_value"),
        (chat(max_tokens="many"), "max_tokens", "invalid_value"),
        (chat(max_tokens=True), "max_tokens", "invalid_value"),
        (chat(max_tokens=-1), "max_tokens", "invalid_value"),
    ],
)
def test_what_cannot_be_read_is_a_400_that_names_it(
    body: bytes, param: str | None, code: str
) -> None:
    with pytest.raises(ApiError) as caught:
        read_chat(body)
    error = caught.value.body["error"]
    assert caught.value.status == 400
    assert (error["param"], error["code"]) == (param, code)
    assert error["type"] == "invalid_request_error"
    assert set(error) == {"message", "type", "param", "code"}


def test_a_completion_needs_a_prompt() -> None:
    with pytest.raises(ApiError, match="missing 'prompt'"):
        read_completion(b'{"model": "m"}')


def test_replacing_the_model_keeps_everything_else() -> None:
    body = chat(model="auto", extra={"ü": [1, None, 2.5]}, stream_options={"include_usage": True})
    assert json.loads(with_model(body, "m1")) == json.loads(body) | {"model": "m1"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'{"seed": 1e999, "model" : "auto"}', b'{"seed": 1e999, "model" : "m1"}'),
        (b'{"model":"auto","x":"\\ud83d"}', b'{"model":"m1","x":"\\ud83d"}'),
        (b'{"model":"auto","x":"\xed\xa0\xbd"}', b'{"model":"m1","x":"\xed\xa0\xbd"}'),
        (
            b'{"model": "auto", "n": 0.10, "model": "a\\"b"}',
            b'{"model": "m1", "n": 0.10, "model": "m1"}',
        ),
        (
            b' {"x":{"model":"auto"},\n"mo\\u0064el":"auto"} ',
            b' {"x":{"model":"auto"},\n"mo\\u0064el":"m1"} ',
        ),
        ('{"model": "auto", "x": "ü"}'.encode("utf-16"), '{"model": "m1", "x": "ü"}'.encode()),
    ],
)
def test_nothing_but_the_model_is_written_anew(before: bytes, after: bytes) -> None:
    assert with_model(before, "m1") == after


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("model"), inner),
    max_leaves=4,
)


@settings(max_examples=50)
@given(st.dictionaries(st.text(), JSON, max_size=3), st.sampled_from([None, 1, "\t"]))
def test_any_object_keeps_its_other_values(fields: dict[str, Any], indent: Any) -> None:
    body = json.dumps(fields | {"model": "auto"}, indent=indent).encode()
    expected = json.dumps(fields | {"model": "m1"}, indent=indent).encode()
    assert with_model(body, "m1") == expected
