"""How many pixels an image in a request has, told from its first bytes."""

from __future__ import annotations

import base64
import binascii
import struct

HEAD_CHARS = 65_536
"""Of the base64 text; a JPEG may hold a thumbnail before its size."""
_PNG, _GIF, _JPEG = b"\x89PNG\r\n\x1a\n", b"GIF8", b"\xff\xd8"
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
"""JPEG markers that start a frame and tell its size (ITU-T T.81, table B.1)."""


def pixels(url: str) -> int:
    """Width times height of a ``data:`` URL's PNG, GIF or JPEG; 0 for a link or anything else."""
    head, comma, data = url.partition(",")
    if not comma or not head.startswith("data:image/") or not head.endswith(";base64"):
        return 0
    text = data[:HEAD_CHARS]
    try:
        raw = base64.b64decode(text[: len(text) // 4 * 4])
        width, height = _size(raw)
    except (binascii.Error, struct.error, ValueError):
        return 0
    return width * height


def _size(raw: bytes) -> tuple[int, int]:
    if raw.startswith(_PNG):
        return struct.unpack_from(">II", raw, 16)
    if raw.startswith(_GIF):
        return struct.unpack_from("<HH", raw, 6)
    if not raw.startswith(_JPEG):
        raise ValueError("another format")
    at = 2
    while True:
        mark, kind, length = struct.unpack_from(">BBH", raw, at)
        if mark != 0xFF:
            raise ValueError("not a marker")
        if kind in _FRAMES:
            height, width = struct.unpack_from(">HH", raw, at + 5)
            return width, height
        at += 2 + length
