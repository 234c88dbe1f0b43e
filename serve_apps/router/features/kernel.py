"""The bytes of prompts read by compiled code: counts of what they are made of, and hashes.

Hashes are polynomial and arithmetic is modulo 2^64, so that they are the same on any machine:

    word   sum of byte i * BASE^i, letters in lower case, mixed
    pair   word before * BASE^3 + word, mixed
    gram   sum of byte i * BASE^i over GRAM bytes, mixed; one in four is kept, by two bits
"""

from __future__ import annotations

from math import log1p, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from profiler.compiled import compiled, inner

Bytes = NDArray[np.uint8]
Integers = NDArray[np.int64]
Buckets = NDArray[np.int32]
Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

BITS = 14
"""Of a hash the leading ones, which say its bucket."""
BUCKETS = 1 << BITS
"""For words and pairs of words; as many again for grams."""
GRAM = 4
BASE = 0x9E3779B97F4A7C15
MIX = 0xD6E8FEB86659FD93
OTHER, LETTER, DIGIT, UPPER, SPACE, NEWLINE, QUESTION, MATHS, LATEX, CODE, STOP, QUOTE, WIDE = (
    range(13)
)
"""Kinds of byte: those that words are made of, and those which say what a text is about."""
KINDS = 13
FORM = 25
"""How many numbers tell a text's form, in the order of `hand.NAMES`."""
MOST_SPREADS = 5.0
"""No feature is farther from its mean."""
LONG_WORD = 8
WORDS, LENGTHS, SQUARES, LONG, NUMBERS, NUMBER_LENGTHS, DISTINCT = range(7)
"""A tally of a text's words: how many, the sums of their lengths and of the squares of these, how
many are long, how many are numbers, the sum of these' lengths, how many different words."""

_CHARACTERS = {
    LETTER: b"abcdefghijklmnopqrstuvwxyz",
    DIGIT: b"0123456789",
    UPPER: b"ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    SPACE: b" \t\r",
    NEWLINE: b"\n",
    QUESTION: b"?",
    MATHS: b"+*/=<>^%",
    LATEX: b"$\\",
    CODE: b"{}[]_;#`|",
    STOP: b".,!:",
    QUOTE: b"\"'",
    WIDE: bytes(range(128, 256)),
}
KIND = np.full(256, OTHER, dtype=np.uint8)
for _kind, _characters in _CHARACTERS.items():
    KIND[list(_characters)] = _kind
_IN_WORD = np.isin(KIND, (LETTER, DIGIT, UPPER, WIDE))
_LOWER = np.frombuffer(bytes(range(256)).lower(), dtype=np.uint8)
_AFTER_CHOICE = np.isin(np.arange(256), (ord("."), ord(")"), ord(":")))

# The compiler makes a float of an unsigned and a signed number together: these are all unsigned.
_BASE, _MIX = np.uint64(BASE), np.uint64(MIX)
_BASE_2, _BASE_3 = np.uint64(BASE**2 % (1 << 64)), np.uint64(BASE**3 % (1 << 64))
_ZERO, _ONE, _HALF, _DROPPED = np.uint64(0), np.uint64(1), np.uint64(32), np.uint64(3)
_TO_BUCKET = np.uint64(64 - BITS)
_OF_WORD, _OF_GRAM, _OF_PAIR = np.uint64(0), np.uint64(GRAM), np.uint64(99)
_UNDERSCORE = ord("_")


@compiled
def read(
    data: Bytes, ends: Integers, group: Bytes, groups: int
) -> tuple[Floats, Buckets, Integers, Buckets, Integers]:
    """Read texts, of which number i is ``data[ends[i]:ends[i + 1]]``.

    ``group`` says for each bucket of a word which of so many groups it belongs to, from 1, or 0.
    Returns ``[texts, FORM + groups]`` (form, and the share of words in each group); buckets of
    words and pairs of words, and their ends; buckets of grams, after those of words, and theirs.
    """
    texts = ends.size - 1
    told = np.zeros((texts, FORM + groups))
    words, word_ends = np.empty(data.size + 2, np.int32), np.zeros(texts + 1, np.int64)
    grams, gram_ends = np.empty(data.size + 2, np.int32), np.zeros(texts + 1, np.int64)
    kinds, tally = np.zeros(KINDS, np.int64), np.zeros(DISTINCT + 1, np.int64)
    lower, breaks = np.empty(data.size, np.uint8), np.empty(data.size + 2, np.int64)
    for t in range(texts):
        text, row = data[ends[t] : ends[t + 1]], told[t]
        small = lower[: text.size]
        lines = _count(text, small, kinds, breaks)
        at, to = word_ends[t], gram_ends[t]
        word_ends[t + 1] = at + _words(text, small, group, words[at:], row[FORM:], tally)
        gram_ends[t + 1] = to + _grams(small, grams[to:])
        _form(text, kinds, tally, row)
        _lines(text, breaks[:lines], row)
    return told, words[: word_ends[texts]], word_ends, grams[: gram_ends[texts]], gram_ends


@compiled
def features(
    data: Bytes,
    ends: Integers,
    group: Bytes,
    groups: int,
    around: Floats,
    mean: Floats,
    spread: Floats,
    table: Singles,
    weight: float,
) -> Floats:
    """``[texts, hand features + directions]`` of texts and what surrounds them, in one go.

    Hand features are what `read` tells and ``around``, less ``mean``, over ``spread``, within
    `MOST_SPREADS`. Directions are the rows of ``table`` of a text's buckets, summed. The table's
    last column is the square of each bucket's IDF: both sums, of words and of grams, are divided
    by the length of their TF-IDF vector, repeats counting as if each were another word, which
    spares sorting them out.
    """
    told, words, word_ends, grams, gram_ends = read(data, ends, group, groups)
    texts, form, width = told.shape[0], told.shape[1], table.shape[1]
    out = np.zeros((texts, mean.size + width - 1))
    sums = np.empty(width, np.float32)
    for t in range(texts):
        row, leading = out[t, : mean.size], out[t, mean.size :]
        for i in range(mean.size):
            value = told[t, i] if i < form else around[t, i - form]
            row[i] = (value - mean[i]) / spread[i]
            # An outlier in one feature must not outweigh all the others.
            if abs(row[i]) > MOST_SPREADS:
                row[i] = MOST_SPREADS if row[i] > 0 else -MOST_SPREADS
        _add(table, words[word_ends[t] : word_ends[t + 1]], weight, sums, leading)
        _add(table, grams[gram_ends[t] : gram_ends[t + 1]], weight, sums, leading)
    return out


@inner
def _add(table: Singles, buckets: Buckets, weight: float, sums: Singles, out: Floats) -> None:
    sums[:] = 0
    for bucket in buckets:
        row = table[bucket]
        for d in range(sums.size):
            sums[d] += row[d]
    scale = weight / sqrt(max(sums[-1], 1e-6))
    for d in range(out.size):
        out[d] += sums[d] * scale


@inner
def _mixed(hashed: Any, salt: Any) -> Any:
    """Spread over all bits: the low bits of a polynomial hash depend on little."""
    mixed = (hashed + salt) * _MIX
    mixed ^= mixed >> _HALF
    return mixed * _MIX


@inner
def _count(text: Bytes, lower: Bytes, kinds: Integers, breaks: Integers) -> int:
    """Counts of bytes by kind, their small letters, and where lines end, the last one too."""
    kinds[:] = 0
    lines = 0
    for i in range(text.size):
        kind = KIND[text[i]]
        kinds[kind] += 1
        lower[i] = _LOWER[text[i]]
        # No branch: it would be foretold wrongly too often.
        breaks[lines] = i
        lines += kind == NEWLINE
    breaks[lines] = text.size
    return lines + 1


@inner
def _words(
    text: Bytes, lower: Bytes, group: Bytes, buckets: Buckets, shares: Floats, tally: Integers
) -> int:
    """Buckets of words and pairs, and how many; see `WORDS` and after for the tally."""
    tally[:] = 0
    seen = np.zeros(_room(text.size), np.uint64)
    found, i, before = 0, 0, _ZERO
    while i < text.size:
        if not _IN_WORD[text[i]]:
            i += 1
            continue
        start, hashed, power = i, _ZERO, _ONE
        while i < text.size and _IN_WORD[text[i]]:
            hashed += np.uint64(lower[i]) * power
            power *= _BASE
            i += 1
        hashed = _mixed(hashed, _OF_WORD)
        bucket = np.int32(hashed >> _TO_BUCKET)
        if group[bucket]:
            shares[group[bucket] - 1] += 1
        buckets[found] = bucket
        found += 1
        if tally[WORDS]:
            buckets[found] = np.int32(_mixed(before * _BASE_3 + hashed, _OF_PAIR) >> _TO_BUCKET)
            found += 1
        before = hashed
        tally[DISTINCT] += _is_new(seen, hashed)
        _measure(i - start, KIND[text[start]] == DIGIT, tally)
    for g in range(shares.size):
        shares[g] /= max(tally[WORDS], 1)
    return found


@inner
def _measure(length: int, is_number: bool, tally: Integers) -> None:
    tally[WORDS] += 1
    tally[LENGTHS] += length
    tally[SQUARES] += length * length
    tally[LONG] += length >= LONG_WORD
    if is_number:
        tally[NUMBERS] += 1
        tally[NUMBER_LENGTHS] += length


@inner
def _room(size: int) -> int:
    """A power of two above the number of words that fit in so many bytes, twice over."""
    room = 16
    while room < size + 2:
        room *= 2
    return room


@inner
def _is_new(seen: Any, hashed: Any) -> int:
    """1 where the hash was not there yet; open addressing, 0 being an empty place."""
    key = hashed | _ONE
    mask = np.uint64(seen.size - 1)
    at = (hashed >> _HALF) & mask
    while seen[at] != _ZERO:
        if seen[at] == key:
            return 0
        at = (at + _ONE) & mask
    seen[at] = key
    return 1


@inner
def _grams(lower: Bytes, buckets: Buckets) -> int:
    """Buckets of the grams that are kept, and how many."""
    found = 0
    for i in range(lower.size - GRAM + 1):
        hashed = (
            np.uint64(lower[i])
            + np.uint64(lower[i + 1]) * _BASE
            + np.uint64(lower[i + 2]) * _BASE_2
            + np.uint64(lower[i + 3]) * _BASE_3
        )
        hashed = _mixed(hashed, _OF_GRAM)
        # Written over by the next one where it is not kept, which spares a branch.
        buckets[found] = np.int32(hashed >> _TO_BUCKET) + BUCKETS
        found += hashed & _DROPPED == _ZERO
    return found


@inner
def _form(text: Bytes, kinds: Integers, tally: Integers, row: Floats) -> None:
    size, words = max(text.size, 1), max(tally[WORDS], 1)
    mean = tally[LENGTHS] / words
    row[0] = log1p(text.size)
    row[1] = log1p(tally[WORDS])
    row[2] = log1p(kinds[NEWLINE])
    row[3] = mean
    row[4] = sqrt(max(tally[SQUARES] / words - mean * mean, 0.0))
    row[5] = tally[LONG] / words
    for kind in range(DIGIT, SPACE + 1):
        row[6 + kind - DIGIT] = kinds[kind] / size
    for kind in range(QUESTION, WIDE + 1):
        row[9 + kind - QUESTION] = kinds[kind] / size
    row[16] = log1p(tally[NUMBERS])
    row[17] = tally[NUMBER_LENGTHS] / max(tally[NUMBERS], 1)
    row[22] = _has_blank(text)
    row[23] = tally[DISTINCT] / words


@inner
def _has_blank(text: Bytes) -> bool:
    """Whether two underscores follow each other: a blank to fill in."""
    found = False
    for i in range(1, text.size):
        found |= text[i] == _UNDERSCORE and text[i - 1] == _UNDERSCORE
    return found


@inner
def _lines(text: Bytes, breaks: Integers, row: Floats) -> None:
    """Of lines such as "B. 42": how many, their bytes and digits; bytes before them; last line."""
    choices, size, digits, stem = 0, 0, 0, text.size
    for k in range(breaks.size - 1):
        start, end = breaks[k], breaks[k + 1]
        if _is_choice(text, start, end):
            stem = start if choices == 0 else stem
            choices += 1
            size += end - start - 3
            for byte in text[start:end]:
                digits += KIND[byte] == DIGIT
    row[18] = choices
    row[19] = log1p(size / max(choices, 1))
    row[20] = digits / max(size, 1)
    row[21] = log1p(stem)
    row[24] = log1p(text.size - breaks[-2] - 1 if breaks.size > 1 else text.size)


@inner
def _is_choice(text: Bytes, start: int, end: int) -> bool:
    """Whether the line between two line breaks begins like an answer to choose."""
    if start + 2 >= end:
        return False
    return KIND[text[start + 1]] == UPPER and bool(_AFTER_CHOICE[text[start + 2]])
