"""Text that looks like a secret, so that files and logs can be kept free of it.

Each kind has a prefix of its own, by which the search is fast and seldom wrong.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

HIDDEN = "[secret]"


@dataclass(frozen=True, slots=True)
class Found:
    """A secret in a text: what kind, where, and how it is better passed on. Never the secret."""

    kind: str
    start: int
    mend: str


_BY_ENVIRONMENT = "pass it by environment variable"
_KINDS: tuple[tuple[str, str, str], ...] = (
    ("orc_", r"orc_[a-z2-7]{10}_[A-Za-z0-9_-]{20,}", "an API key of this product"),
    ("hf_", r"hf_[A-Za-z0-9]{20,}", "a Hugging Face token"),
    ("sk-", r"(?<![A-Za-z0-9])sk-[A-Za-z0-9_-]{20,}", "an API key"),
    ("ghp_", r"ghp_[A-Za-z0-9]{30,}", "a GitHub token"),
    ("github_pat_", r"github_pat_[A-Za-z0-9_]{30,}", "a GitHub token"),
    ("AKIA", r"AKIA[A-Z0-9]{16}(?![A-Za-z0-9])", "an AWS key id"),
    ("eyJ", r"eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]+", "a JSON web token"),
    (
        "PRIVATE KEY-----",
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
        "a private key",
    ),
)
_PATTERNS = tuple((prefix, re.compile(pattern), kind) for prefix, pattern, kind in _KINDS)
_FLAG_PREFIXES = ("--api", "--hf")
_FLAG = re.compile(r"(?m)^[^#\n]*?(--(?:api[-_]key|hf[-_]token))\b")
"""Not in comments: there one may warn of it."""
_FLAG_MEND = "pass it by environment variable (VLLM_API_KEY, HF_TOKEN)"

_NAMED = re.compile(
    r"""(?ix)
    ( \b (?: authorization | proxy-authorization | x-api-key | api[-_]?key | hf[-_]token
         | access[-_]?token | auth[-_]?token | password | passwd | client[-_]?secret | cookie )
      ["']? \s* (?: [:=] | ,\s*b?(?=["']) ) \s* b? ["']? )
    (?: (?: bearer | basic ) \s+ )?
    [^\s"',;)\]}]+
    """
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}")


def find(text: str) -> Found | None:
    """The first secret, by kind, in the text of a file; also a flag that would carry one."""
    for prefix, pattern, kind in _PATTERNS:
        if prefix in text and (match := pattern.search(text)):
            return Found(kind, match.start(), _BY_ENVIRONMENT)
    if any(prefix in text for prefix in _FLAG_PREFIXES) and (match := _FLAG.search(text)):
        return Found(f"the flag {match[1]}, which carries a secret,", match.start(1), _FLAG_MEND)
    return None


def redact(text: str) -> str:
    """The text with every secret replaced, known by its shape or by the name before it."""
    for prefix, pattern, _ in _PATTERNS:
        if prefix in text:
            text = pattern.sub(HIDDEN, text)
    text = _BEARER.sub(rf"\1 {HIDDEN}", text)
    return _NAMED.sub(rf"\1{HIDDEN}", text)
