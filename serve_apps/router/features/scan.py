"""One pass over the bytes of many prompts: characters by kind, words, and their hashes.

All of it is NumPy over one long array, so that a batch costs little more than its bytes and a
single prompt no more than a handful of calls. Hashes are polynomial, which lets every word and
every n-gram be read off running sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Hashes = NDArray[np.uint64]

MAX_BYTES = 8192
"""Of a longer text the two ends are read: the question stands at one of them."""

BASE = 0x9E3779B97F4A7C15 | 1
INVERSE_BASE = pow(BASE, -1, 1 << 64)
MIX = np.uint64(0xD6E8FEB86659FD93)
WORD = 1
"""Kinds of character: letters of words, and those which say what a text is about."""
DIGIT, UPPER, SPACE, NEWLINE, QUESTION, MATHS, LATEX, CODE, STOP, QUOTE, WIDE = range(2, 13)
KINDS = 13


def _kinds() -> NDArray[np.uint8]:
    kinds = np.zeros(256, dtype=np.uint8)
    for characters, kind in (
        (b"abcdefghijklmnopqrstuvwxyz", WORD),
        (b"0123456789", DIGIT),
        (b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", UPPER),
        (b" \t\r", SPACE),
        (b"\n", NEWLINE),
        (b"?", QUESTION),
        (b"+*/=<>^%", MATHS),
        (b"$\\", LATEX),
        (b"{}[]_;#`|", CODE),
        (b".,!:", STOP),
        (b"\"'", QUOTE),
        (bytes(range(128, 256)), WIDE),
    ):
        kinds[list(characters)] = kind
    return kinds


KIND = _kinds()
IN_WORD = np.isin(np.arange(KINDS), (WORD, DIGIT, UPPER, WIDE))
LOWER = np.arange(256, dtype=np.uint8)
LOWER[ord("A") : ord("Z") + 1] += 32


def _powers(base: int, count: int) -> Hashes:
    powers = [1]
    for _ in range(count - 1):
        powers.append(powers[-1] * base & 0xFFFFFFFFFFFFFFFF)
    return np.array(powers, dtype=np.uint64)


POWERS = _powers(BASE, MAX_BYTES + 8)
INVERSE_POWERS = _powers(INVERSE_BASE, MAX_BYTES + 8)


@dataclass(frozen=True)
class Scan:
    """Bytes of ``rows`` texts, one after the other.

    ``letters`` are lower-cased, ``kind`` says what each byte was before; ``start`` and ``length``
    place the texts in them. ``word_*`` are of the words: row, position, length, hash.
    """

    letters: NDArray[np.uint8]
    kind: NDArray[np.uint8]
    start: Integers
    length: Integers
    row: Integers
    word_row: Integers
    word_at: Integers
    word_length: Integers
    word_hash: Hashes

    @property
    def rows(self) -> int:
        """How many texts there are."""
        return self.start.size

    def grams(self, size: int) -> tuple[Integers, Hashes]:
        """Row and hash of every run of ``size`` bytes that does not cross into the next text."""
        count = self.letters.size - size + 1
        if count <= 0:
            return np.zeros(0, np.int64), np.zeros(0, np.uint64)
        hashes = np.zeros(count, dtype=np.uint64)
        for i in range(size):
            hashes += self.letters[i : i + count] * POWERS[i]
        inside = self.row[:count] == self.row[size - 1 :]
        return self.row[:count][inside], _mixed(hashes[inside], size)

    def pairs(self) -> tuple[Integers, Hashes]:
        """Row and hash of every two words that follow each other."""
        same = self.word_row[1:] == self.word_row[:-1]
        hashes = self.word_hash[:-1] * POWERS[3] + self.word_hash[1:]
        return self.word_row[1:][same], _mixed(hashes[same], 99)


def scan(texts: Sequence[str]) -> Scan:
    """Read the texts; of each at most `MAX_BYTES`."""
    raw = [_bounded(text.encode("utf-8", "surrogatepass")) for text in texts]
    length = np.array([len(r) for r in raw], dtype=np.int64)
    start = np.concatenate([[0], np.cumsum(length)[:-1]])
    data = np.frombuffer(b"".join(raw), dtype=np.uint8)
    row = np.repeat(np.arange(len(raw)), length)
    kind = KIND[data]
    letters = LOWER[data]
    inside = IN_WORD[kind]
    first = inside.copy()
    first[1:] &= ~inside[:-1] | (row[1:] != row[:-1])
    last = inside.copy()
    last[:-1] &= ~inside[1:] | (row[1:] != row[:-1])
    word_at = np.flatnonzero(first)
    word_end = np.flatnonzero(last) + 1
    word_row = row[word_at]
    return Scan(
        letters=letters,
        kind=kind,
        start=start,
        length=length,
        row=row,
        word_row=word_row,
        word_at=word_at,
        word_length=word_end - word_at,
        word_hash=_word_hashes(letters, word_at, word_end, start[word_row], row, start),
    )


def hash_of(word: str) -> np.uint64:
    """The hash that `scan` gives this word."""
    return np.uint64(scan([word]).word_hash[0])


def _word_hashes(
    letters: NDArray[np.uint8],
    at: Integers,
    end: Integers,
    text_start: Integers,
    row: Integers,
    start: Integers,
) -> Hashes:
    """sum of byte * BASE**(place in the word): a difference of running sums, shifted back."""
    place = np.arange(letters.size) - start[row]
    sums = np.zeros(letters.size + 1, dtype=np.uint64)
    np.cumsum(letters * POWERS[place], out=sums[1:])
    return _mixed((sums[end] - sums[at]) * INVERSE_POWERS[at - text_start], 0)


def _mixed(hashes: Hashes, salt: int) -> Hashes:
    """Spread over all bits: the low bits of a polynomial hash depend on little."""
    mixed = (hashes + np.uint64(salt)) * MIX
    mixed ^= mixed >> np.uint64(32)
    return mixed * MIX


def _bounded(raw: bytes) -> bytes:
    half = MAX_BYTES // 2
    return raw if len(raw) <= MAX_BYTES else raw[:half] + raw[-half:]
