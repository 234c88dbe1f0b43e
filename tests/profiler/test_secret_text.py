"""Secrets in files are refused with the line and never shown."""

from __future__ import annotations

import pytest

from profiler.documents import Document
from profiler.errors import InputError
from profiler.secret_text import HIDDEN, find, redact

SECRETS = [
    "hf_" + "a1B2" * 8,
    "sk-" + "proj-" + "a1B2" * 8,
    "orc_abcdefghij_" + "x-_9" * 11,
    "ghp_" + "a1B2" * 9,
    "AKIA" + "ABCD2345" * 2,
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcDEF-_123",
    "-----BEGIN PRIVATE KEY-----",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_a_file_with_a_secret_is_refused_and_the_secret_is_not_shown(secret: str) -> None:
    with pytest.raises(InputError, match=r"s.yaml:2: found .*environment variable") as error:
        Document(f"a: 1\nb: '{secret}'\n", "s.yaml")
    assert secret not in str(error.value)


@pytest.mark.parametrize("flag", ["--api-key", "--hf-token", "--api_key=x"])
def test_a_flag_that_carries_one_is_too(flag: str) -> None:
    with pytest.raises(InputError, match=r"s.yaml:1: .*VLLM_API_KEY"):
        Document(f"extra_args: [{flag}, abc]", "s.yaml")


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_hidden_in_text(secret: str) -> None:
    assert redact(f"before {secret} after").startswith(f"before {HIDDEN}")


@pytest.mark.parametrize(
    "text",
    ["model: hf_hub/name", "task-sk-1", "sha256:" + "0f" * 32, "meta-llama/Llama-3.1-8B-Instruct",
     "secretary: none", "risk-" + "a" * 30, "tokens: 5", "password_hash_of: x",
     "a: 1  # no --api-key here"],
)  # fmt: skip
def test_what_is_no_secret_is_left_alone(text: str) -> None:
    assert find(text) is None
    assert redact(text) == text
