"""Top-level members cut out of a JSON object, or replaced, with every other byte as it was sent."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping

_SPACE = " \t\n\r"


def strip(body: bytes, keys: Collection[str]) -> bytes:
    """A body that was read, without these top-level keys, wherever and however often they stand.

    What a client wrote may have no equal in Python's terms (numbers beyond a float, halves of
    surrogate pairs), so nothing is decoded and encoded anew: what is left are slices of the body.
    """
    text = body.decode(json.detect_encoding(body), "surrogatepass")
    members = list(_members(text))
    kept = [i for i, member in enumerate(members) if member[0] not in keys]
    if len(kept) == len(members):
        return body
    pieces = [text[: members[0][1]]]
    # Each with the comma and white space up to its neighbour, the last without.
    pieces += [text[members[i][1] : members[i + 1][1]] for i in kept[:-1]]
    if kept:
        _, start, _, end = members[kept[-1]]
        pieces.append(text[start:end])
    pieces.append(text[members[-1][3] :])
    return "".join(pieces).encode("utf-8", "surrogatepass")


def replace(body: bytes, values: Mapping[str, str]) -> bytes:
    """A body that was read, with the values of these top-level keys replaced by text."""
    text = body.decode(json.detect_encoding(body), "surrogatepass")
    pieces, copied = [], 0
    for key, _, start, end in _members(text):
        if key in values:
            pieces += [text[copied:start], json.dumps(values[key])]
            copied = end
    return "".join([*pieces, text[copied:]]).encode("utf-8", "surrogatepass")


def _members(text: str) -> Iterator[tuple[str, int, int, int]]:
    """The members of a valid JSON object: key, start of the member, start and end of its value."""
    decoder = json.JSONDecoder()
    at = _skip(text, 0, "{")
    while text[at] != "}":
        key, after_key = decoder.raw_decode(text, at)
        start = _skip(text, after_key, ":")
        _, end = decoder.raw_decode(text, start)
        yield key, at, start, end
        at = _skip(text, end, ",")


def _skip(text: str, at: int, sign: str) -> int:
    """The next place that is neither white space nor the sign."""
    while text[at] in _SPACE or text[at] == sign:
        at += 1
    return at
