"""How many tokens a prompt is taken for, told without a tokenizer: by the ingress, which chooses a
size bucket, and by the emulated engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

CHARS_PER_TOKEN = 4
"""A rule of thumb for English text."""
IMAGE_TOKENS = 576
"""Estimate for one image part: the 24 x 24 patches of a CLIP ViT-L/14 encoder at 336 pixels."""


def chat_tokens(messages: Sequence[Any]) -> int:
    """Tokens of a chat's messages, as JSON has them; what is no message counts nothing."""
    return sum(map(_message_tokens, messages))


def prompt_tokens(prompt: str | Sequence[Any]) -> int:
    """Estimated for text, exact for token ids; a list of prompts counts in full."""
    if isinstance(prompt, str):
        return _text_tokens(prompt)
    return sum(_item_tokens(item) for item in prompt)


def _message_tokens(message: Any) -> int:
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, str):
        return _text_tokens(content)
    if isinstance(content, list):
        return sum(_part_tokens(part) for part in content)
    return 0


def _part_tokens(part: Any) -> int:
    if isinstance(part, str):
        return _text_tokens(part)
    text = part.get("text") if isinstance(part, dict) else None
    return _text_tokens(text) if isinstance(text, str) else IMAGE_TOKENS


def _item_tokens(item: Any) -> int:
    if isinstance(item, str):
        return _text_tokens(item)
    return len(item) if isinstance(item, list) else 1


def _text_tokens(text: str) -> int:
    return -(-len(text) // CHARS_PER_TOKEN)
