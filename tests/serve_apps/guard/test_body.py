"""What a body may ask for: fields pass, are dropped, or are refused with the reason."""

from __future__ import annotations

import ast
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.errors import InputError
from serve_apps.api_error import ApiError
from serve_apps.guard.body import clean
from serve_apps.guard.fields import DECIDED, FIXED, REASONS, ROUTING
from serve_apps.guard.settings import BodyLimits, GuardSettings

OPEN = GuardSettings()


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "m1", "messages": [{"role": "user", "content": "hi"}]} | fields


def part(**fields: Any) -> dict[str, Any]:
    return {"model": "m1", "messages": [{"role": "user", "content": [fields]}]}


def refused(fields: dict[str, Any], settings: GuardSettings = OPEN) -> ApiError:
    with pytest.raises(ApiError) as error:
        clean(fields, settings)
    assert error.value.status == 400
    return error.value


def test_what_engines_know_passes() -> None:
    fields = chat(
        temperature=0.3, n=2, stop=["a", "b"], top_logprobs=5, logprobs=True, seed=1, user="u",
        metadata={"a": "b"}, stream_options={"include_usage": True}, future_field={"x": [1]},
        tools=[{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        cache_salt="mine", logit_bias={"5": 1},
    )  # fmt: skip
    assert clean(fields, OPEN) == ()
    assert clean({"model": "m", "prompt": "hi", "logprobs": 5, "echo": True}, OPEN) == ()


@pytest.mark.parametrize("name", [*ROUTING, "priority", "request_id", "session_id"])
def test_words_about_routing_and_identity_are_cut_out(name: str) -> None:
    assert clean(chat(**{name: "http://169.254.169.254/"}), OPEN) == (name,)


@pytest.mark.parametrize("name", sorted(REASONS))
def test_fields_that_reach_into_an_engine_are_refused_with_the_reason(name: str) -> None:
    error = refused(chat(**{name: {"a": "b"}}))
    assert error.body["error"]["param"] == name
    assert REASONS[name] in str(error)


def test_an_empty_field_asks_for_nothing_and_is_cut_out() -> None:
    assert clean(chat(chat_template=None, mm_processor_kwargs={}), OPEN) == (
        "chat_template",
        "mm_processor_kwargs",
    )


def test_an_operator_may_open_what_is_open_to_decide() -> None:
    opened = GuardSettings(fields=dict.fromkeys(DECIDED, "pass"))
    fields = chat(chat_template="{{x}}", chat_template_kwargs={"enable_thinking": False})
    assert clean(fields, opened) == ()
    closed = GuardSettings(fields={"user": "drop", "seed": "refuse"})
    assert clean(chat(user="me"), closed) == ("user",)
    assert refused(chat(seed=1), closed).body["error"]["param"] == "seed"


@pytest.mark.parametrize("name", sorted(FIXED))
def test_no_setting_opens_what_is_never_safe(name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}' is always"):
        GuardSettings(fields={name: "pass"})


@pytest.mark.parametrize("name", ["chat_template", "tokenize", "messages"])
def test_template_arguments_never_replace_the_engines_own(name: str) -> None:
    opened = GuardSettings(fields={"chat_template_kwargs": "pass"})
    assert name in str(refused(chat(chat_template_kwargs={name: "x"}), opened))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 17}, "n"),
        ({"best_of": 17}, "best_of"),
        ({"n": 0}, "n"),
        ({"n": 1e400}, "n"),
        ({"n": "2"}, "n"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"top_logprobs": -1}, "top_logprobs"),
        ({"prompt_logprobs": -1}, "prompt_logprobs"),
        ({"logprobs": 10**30}, "logprobs"),
        ({"stop": ["x"] * 33}, "stop"),
        ({"stop": "x" * 513}, "stop"),
        ({"stop": ["x" * 513]}, "stop"),
        ({"logit_bias": {str(i): 1 for i in range(1025)}}, "logit_bias"),
        ({"bad_words": ["x"] * 1025}, "bad_words"),
        ({"allowed_token_ids": [1] * 1025}, "allowed_token_ids"),
        ({"prompt": ["x"] * 129}, "prompt"),
        ({"prompt": [[1, 2]] * 129}, "prompt"),
        ({"prompt": ["x"] * 100, "n": 2}, "prompt"),
        ({"messages": [{"role": "user"}] * 2049}, "messages"),
        ({"max_tokens": 1001}, "max_tokens"),
        ({"max_completion_tokens": 1001}, "max_completion_tokens"),
        ({"min_tokens": 1001}, "min_tokens"),
    ],
)
def test_beyond_a_ceiling_is_a_400_that_names_the_field(fields: dict[str, Any], param: str) -> None:
    limited = GuardSettings(body=BodyLimits(max_output_tokens=1000))
    error = refused({"model": "m1"} | fields, limited)
    assert error.body["error"]["param"] == param


def test_one_list_of_token_ids_is_one_prompt() -> None:
    assert clean({"model": "m", "prompt": list(range(5000))}, OPEN) == ()


@pytest.mark.parametrize(
    "value",
    [
        {"type": "image_url", "image_url": {"url": "http://169.254.169.254/latest"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "image_url", "image_url": {"url": "HTTPS://example.com/a.png"}},
        {"type": "image_url", "image_url": {"url": " \n https://example.com/a.png"}},
        {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}},
        {"type": "image_url", "image_url": {"url": "//example.com/a.png"}},
        {"type": "image_url", "image_url": {"url": "data:text/html;base64,aGk="}},
        {"type": "input_image", "image_url": "https://example.com/a.png"},
        {"image_url": "https://example.com/a.png"},
        {"type": "video_url", "video_url": {"url": "ftp://example.com/a.mp4"}},
        {"type": "audio_url", "audio_url": {"url": "gopher://example.com"}},
        {"type": "text", "text": "hi", "image_url": "https://example.com/a.png"},
        {"type": "file", "file": {"file_url": "https://example.com/a.pdf"}},
        {"type": "image_url", "image_url": {"url": {"url": "https://example.com"}}},
        {"type": "image_url", "image_url": ["https://example.com"]},
        {"type": "image_embeds", "image_embeds": "gASV"},
        {"type": "audio_embeds", "audio_embeds": "gASV"},
        {"type": "prompt_embeds", "data": "gASV"},
        {"type": "image_url", "image_url": None, "uuid": "another's"},
        {"image_pil": "x"},
    ],
)
def test_media_that_an_engine_would_fetch_or_unpickle_is_refused(value: dict[str, Any]) -> None:
    assert refused(part(**value)).body["error"]["param"] == "messages"
    as_mapping = {"model": "m", "messages": [{"role": "user", "content": value}]}
    assert refused(as_mapping).status == 400


@pytest.mark.parametrize(
    "value",
    [
        {"type": "text", "text": "see https://example.com"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk=", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "DATA:image/png;base64,aGk="}},
        {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}},
        {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,aGk="}},
        {"type": "thinking", "thinking": "file:///etc"},
    ],
)
def test_text_and_media_sent_along_pass(value: dict[str, Any]) -> None:
    assert clean(part(**value), OPEN) == ()


def test_http_media_passes_only_where_enabled_and_other_schemes_never() -> None:
    opened = GuardSettings(media_urls=True)
    http = part(type="image_url", image_url={"url": "https://example.com/a.png"})
    assert clean(http, opened) == ()
    file = part(type="image_url", image_url={"url": "file:///etc/passwd"})
    assert "'file' URL" in str(refused(file, opened))


def test_media_is_counted_and_weighed() -> None:
    limited = GuardSettings(body=BodyLimits(max_media=2, max_media_bytes=40, max_parts=3))
    one = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    assert clean({"messages": [{"content": [one, one]}]}, limited) == ()
    assert "3 images" in str(refused({"messages": [{"content": [one]}] * 3}, limited))
    assert "4 content parts" in str(refused({"messages": [{"content": [{}] * 4}]}, limited))
    heavy = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "a" * 40}}
    assert "bytes" in str(refused(part(**heavy), limited))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("guided_regex", "a" * 1025),
        ("guided_regex", "(a{1,100}){1,101}"),
        ("guided_regex", "a{99999999999999999999}"),
        ("structured_outputs", {"regex": "((a{99}){99}){99}"}),
        ("structured_outputs", {"grammar": "root ::= [a]{1,20000}"}),
        ("structured_outputs", {"json": {"maxLength": 10_001}}),
        ("structured_outputs", {"json": '{"items": {"pattern": "(a{200}){200}"}}'}),
        ("guided_json", '{"maxItems": 1000000}'),
        ("guided_json", {"properties": {"a": {"minItems": 1e400}}}),
        ("guided_choice", ["x" * 70_000]),
        ("response_format", {"json_schema": {"schema": {"pattern": "x{50000}"}}}),
        ("tools", [{"function": {"parameters": {"x": {"minProperties": 20_000}}}}]),
    ],
)
def test_a_grammar_that_explodes_is_refused(name: str, value: Any) -> None:
    assert refused(chat(**{name: value})).body["error"]["param"] == name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("guided_regex", r"\d{3}-\d{4}"),
        ("structured_outputs", {"choice": ["a", "b"]}),
        ("structured_outputs", {"json": "no schema, the engine's to refuse"}),
        ("response_format", {"type": "json_object"}),
        ("response_format", {"json_schema": {"schema": {"maxLength": 100, "pattern": "^a{1,9}$"}}}),
    ],
)
def test_a_grammar_of_common_size_passes(name: str, value: Any) -> None:
    assert clean(chat(**{name: value}), OPEN) == ()


FIELD = st.sampled_from(
    ["n", "stop", "messages", "prompt", "tools", "logprobs", "structured_outputs", "chat_template",
     "guided_regex", "guided_json", "logit_bias", "max_tokens", "response_format", "content"]
)  # fmt: skip
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(FIELD | st.sampled_from(["type", "url", "json"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=60)
@given(st.dictionaries(FIELD, VALUE, max_size=5))
def test_whatever_was_parsed_is_cleaned_or_a_400(fields: dict[str, Any]) -> None:
    try:
        assert set(clean(fields, OPEN)) <= fields.keys()
    except ApiError as error:
        assert error.status == 400
        json.dumps(error.body)


def test_every_field_of_the_installed_engine_was_looked_at() -> None:
    """A new version of vLLM may take new fields; each is to be decided before it is served."""
    found = importlib.util.find_spec("vllm")
    if found is None or not found.submodule_search_locations:
        pytest.skip("vLLM is not installed")
    root = Path(next(iter(found.submodule_search_locations))) / "entrypoints" / "openai"
    names = set()
    for kind in ("chat_completion", "completion"):
        path = root / kind / "protocol.py"
        if not path.exists():
            pytest.skip("this version of vLLM keeps its protocol elsewhere")
        names |= _fields(path)
    assert names - LOOKED_AT - FIXED.keys() - DECIDED.keys() == set()


def _fields(path: Path) -> set[str]:
    wanted = ("ChatCompletionRequest", "CompletionRequest")
    return {
        node.target.id
        for found in ast.parse(path.read_text()).body
        if isinstance(found, ast.ClassDef) and found.name in wanted
        for node in found.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        if not node.target.id.startswith("_")
    }


LOOKED_AT = {
    "messages", "model", "prompt", "suffix", "frequency_penalty", "logit_bias", "logprobs",
    "top_logprobs", "max_tokens", "max_completion_tokens", "n", "presence_penalty",
    "response_format", "seed", "stop", "stream", "stream_options", "temperature", "top_p",
    "tools", "tool_choice", "reasoning_effort", "thinking_token_budget", "include_reasoning",
    "parallel_tool_calls", "user", "use_beam_search", "top_k", "min_p", "repetition_penalty",
    "watermarking", "length_penalty", "stop_token_ids", "include_stop_str_in_output",
    "ignore_eos", "min_tokens", "skip_special_tokens", "spaces_between_special_tokens",
    "truncate_prompt_tokens", "truncation_side", "prompt_logprobs", "logprob_token_ids",
    "allowed_token_ids", "bad_words", "echo", "add_generation_prompt", "continue_final_message",
    "add_special_tokens", "documents", "structured_outputs", "return_tokens_as_token_ids",
    "return_token_ids", "routed_experts_prompt_start", "return_token_offsets",
    "return_prompt_text", "mm_payload", "return_mm_kwargs", "repetition_detection",
    "stream_interval",
}  # fmt: skip
"""They change only the answer to their own request, and the costly ones have ceilings."""


def test_a_mistake_in_the_settings_is_an_input_error() -> None:
    from profiler import documents

    with pytest.raises(InputError, match=r"s.yaml:1: .*did you mean 'keys'"):
        documents.parse("keyz: a.yaml", GuardSettings, "s.yaml")
