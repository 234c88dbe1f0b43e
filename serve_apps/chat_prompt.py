"""The parts of an OpenAI request that a learned router looks at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from serve_apps.image_size import pixels
from serve_apps.router.prompts import Prompt

MOST_CHARS = 32_768
"""Of each end of a text; no feature reads more."""


def chat_prompt(fields: Mapping[str, Any], max_output_tokens: int | None) -> Prompt | None:
    """Last user message, system prompt, turns, tools and images; None without a user's text."""
    asked: list[Any] = []
    told: dict[str, list[str]] = {"system": [], "developer": []}
    for message in fields["messages"]:
        if not isinstance(message, dict):
            continue
        role = message.get("role")
        if role == "user":
            asked.append(message.get("content"))
        elif isinstance(role, str) and role in told:
            told[role].append(_text(message.get("content")))
    text = _text(asked[-1]) if asked else ""
    images = [url for c in asked if isinstance(c, list) for url in _images(c)]
    if not text and not images:
        return None
    system = "\n".join(told["system"] + told["developer"])
    tools = fields.get("tools") or fields.get("functions")
    return Prompt(
        text=_ends(text),
        system=_ends(system),
        turns=len(asked),
        tools=len(tools) if isinstance(tools, list) else 0,
        images=len(images),
        image_pixels=sum(map(pixels, images)),
        max_output_tokens=max_output_tokens,
    )


def completion_text(prompt: str | list[Any]) -> str | None:
    """The text of a completion; several prompts are judged together. None for token ids."""
    if isinstance(prompt, str):
        return _ends(prompt)
    if all(isinstance(item, str) for item in prompt):
        return _ends("\n".join(prompt))
    return None


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = (p.get("text") if isinstance(p, dict) else p for p in parts)
    return "\n".join(t for t in texts if isinstance(t, str))


def _images(content: list[Any]) -> Iterator[str]:
    for part in content:
        if isinstance(part, dict) and part.get("type") == "image_url":
            link = part.get("image_url")
            url = link.get("url") if isinstance(link, dict) else link
            yield url if isinstance(url, str) else ""


def _ends(text: str) -> str:
    """The text, or its two ends."""
    return text if len(text) <= 2 * MOST_CHARS else f"{text[:MOST_CHARS]}\n{text[-MOST_CHARS:]}"
