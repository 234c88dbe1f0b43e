"""Secrets that are none: what tutorials, tools and examples put where a key belongs."""

from __future__ import annotations

from profiler.errors import InputError

MIN_SECRET_CHARS = 24
"""Shorter than this, a secret that people chose can be guessed by trying."""
MIN_DISTINCT_CHARS = 10

KNOWN = frozenset({
    "sk-1234", "sk-12345", "sk-123456", "sk-0000", "sk-xxx", "sk-xxxx", "sk-test", "sk-fake",
    "sk-dummy", "sk-anything", "sk-no-key-required", "sk-your-key", "sk-proj-1234", "sk-litellm",
    "sk-master", "sk-local", "sk-abc123", "empty", "none", "null", "nil", "no-key", "nokey",
    "no_key", "na", "n/a", "not-needed", "not-used", "notneeded", "unused", "dummy", "fake",
    "fake-key", "fake-api-key", "test", "test-key", "test-api-key", "testing", "token-abc123",
    "abc123", "abcdef", "abc", "abcd", "123", "1234", "12345", "123456", "12345678", "123456789",
    "1234567890", "key", "api-key", "api_key", "apikey", "my-key", "my-api-key", "your-key",
    "your-api-key", "your_api_key", "yourapikey", "<your-api-key>", "secret", "my-secret",
    "supersecret", "mysecret", "password", "passw0rd", "password123", "pass", "admin",
    "administrator", "root", "guest", "user", "default", "changeme", "change-me", "change_me",
    "changeit", "letmein", "qwerty", "welcome", "example", "placeholder", "todo", "xxx", "xxxx",
    "local", "localhost", "ollama", "lm-studio", "vllm", "openai", "llama", "litellm", "bearer",
    "token", "my-token", "sk_test", "aphrodite", "tabby", "koboldcpp", "anything", "whatever",
    "demo", "master", "orchestrator",
})  # fmt: skip
"""In lower case."""


def is_known(secret: str) -> bool:
    """Whether everybody knows this secret."""
    return secret.strip().casefold() in KNOWN


def check_secret(secret: str, name: str) -> str:
    """A secret that a person set, such as ``--api-key``; ``name`` is the setting's.

    Raises:
        InputError: it is publicly known, or short or plain enough to be guessed.
    """
    mend = "make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
    if is_known(secret):
        raise InputError(f"{name}: this is a publicly known default, no secret; {mend}")
    if len(secret) < MIN_SECRET_CHARS:
        short = f"{len(secret)} characters, expected at least {MIN_SECRET_CHARS}"
        raise InputError(f"{name}: found a secret of {short}; {mend}")
    if len(set(secret)) < MIN_DISTINCT_CHARS:
        few = f"{len(set(secret))} distinct characters, expected {MIN_DISTINCT_CHARS} or more"
        raise InputError(f"{name}: found a secret of {few}; {mend}")
    return secret
