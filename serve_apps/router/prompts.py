"""What a learned router may look at: the request as its parts, before any model has seen it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request, reduced to what features are made of.

    ``text`` is the last user message. ``image_pixels`` is the sum over all images, 0 where the
    request only links to them; ``max_output_tokens`` is the client's limit, None without one.
    """

    text: str
    system: str = ""
    turns: int = 1
    tools: int = 0
    images: int = 0
    image_pixels: int = 0
    max_output_tokens: int | None = None
