"""Media in messages: what is sent along may pass, what an engine would fetch may not.

An engine that fetches URLs for clients can be made to call any address it can reach, the cloud's
metadata service among them. The ingress itself fetches nothing, whatever is set.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from serve_apps.api_error import ApiError
from serve_apps.guard.settings import BodyLimits

TEXT_KEYS = frozenset({
    "type", "text", "refusal", "thinking", "signature", "name", "detail", "format",
    "cache_control",
})  # fmt: skip
REFUSED_KEYS = frozenset(
    {"image_embeds", "audio_embeds", "video_embeds", "prompt_embeds", "image_pil", "uuid"}
)
"""Tensors that are unpickled, and the name under which another's image may lie in a cache."""
_DATA = re.compile(r"data:(?:image|video|audio)/", re.IGNORECASE)
_URL = re.compile(r"[\s\x00-\x1f]*(?:[a-z][a-z0-9+.-]*:|//|\\\\)", re.IGNORECASE)
_HTTP = re.compile(r"https?://", re.IGNORECASE)


def check_media(messages: list[Any], limits: BodyLimits, *, urls: bool) -> None:
    """Every content part of every message; ``urls``: those of http and https may pass.

    Raises:
        ApiError: 400, a part that points elsewhere, is too large, or one too many.
    """
    media = 0
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, dict):
            content = [content]
        if not isinstance(content, list):
            continue
        if len(content) > limits.max_parts:
            most = f"expected at most {limits.max_parts:,} on this service"
            raise _bad(f"a message has {len(content):,} content parts, {most}")
        for part in content:
            media += isinstance(part, dict) and _check_part(part, limits, urls=urls)
    if media > limits.max_media:
        most = f"expected at most {limits.max_media:,} on this service"
        raise _bad(f"the messages have {media:,} images, videos and sounds, {most}")


def _check_part(part: dict[str, Any], limits: BodyLimits, *, urls: bool) -> bool:
    """Check one part; whether it is more than text."""
    if part.keys() <= TEXT_KEYS:
        return False
    if part.get("type") in REFUSED_KEYS or part.keys() & REFUSED_KEYS:
        kind = next(k for k in (*part, part.get("type")) if k in REFUSED_KEYS)
        raise _bad(f"content parts with {kind!r} are not taken here: send the media itself")
    for key, text in _texts(part):
        if len(text) > limits.max_media_bytes:
            most = f"expected at most {limits.max_media_bytes:,}"
            raise _bad(f"a content part has {len(text):,} bytes of {key!r}, {most} on this service")
        if _URL.match(text) and not (_DATA.match(text) or (urls and _HTTP.match(text))):
            raise _bad(_why(key, text, urls=urls))
    return True


def _texts(part: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What stands under the keys that are not text, two levels deep; deeper is in no API."""
    for key, value in part.items():
        if key in TEXT_KEYS:
            continue
        for inner in value.values() if isinstance(value, dict) else [value]:
            if isinstance(inner, str):
                yield key, inner
            elif isinstance(inner, dict | list):
                raise _bad(f"a content part nests {key!r} too deeply")


def _why(key: str, text: str, *, urls: bool) -> str:
    scheme = text.strip().partition(":")[0][:20]
    taken = "data:, http: and https: URLs" if urls else "data: URLs of image/, video/ or audio/"
    return (
        f"{key!r} is a {scheme!r} URL; this service takes {taken}, and fetches nothing for a "
        "request: send the bytes as data:image/png;base64,..."
    )


def _bad(message: str) -> ApiError:
    return ApiError(400, message, param="messages", code="invalid_value")
