"""Prompts as the numbers and hashes that the default features are made of, in one go.

Of a long text `MAX_BYTES` are read, which bounds the time that a prompt can take.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from serve_apps.router.features import kernel
from serve_apps.router.features.kernel import BASE, BITS, MIX, Buckets, Floats, Integers
from serve_apps.router.features.vocabulary import VOCABULARY

MAX_BYTES = 8192
"""Of a longer text the two ends are read: the question stands at one of them."""
_HALF = MAX_BYTES // 2
_MODULUS = 1 << 64


@dataclass(frozen=True)
class Scan:
    """What was read of some texts.

    ``form`` is [texts, kernel.FORM + word lists]: form, and the share of words in each list of
    `VOCABULARY`. Text i has the buckets ``words[word_ends[i]:word_ends[i + 1]]``, of words and of
    pairs of words, and those of ``grams`` likewise.
    """

    form: Floats
    words: Buckets
    word_ends: Integers
    grams: Buckets
    gram_ends: Integers

    @property
    def rows(self) -> int:
        """How many texts there are."""
        return len(self.form)


def scan(texts: Sequence[str]) -> Scan:
    """Read the texts as UTF-8; of each at most `MAX_BYTES`."""
    return Scan(*kernel.read(*joined(texts), GROUP, len(VOCABULARY)))


def joined(texts: Sequence[str]) -> tuple[kernel.Bytes, Integers]:
    """The bytes that are read of all texts, and where each begins and the last one ends."""
    raw = [bounded(text) for text in texts]
    ends = np.array([0, *accumulate(map(len, raw))], dtype=np.int64)
    return np.frombuffer(b"".join(raw), dtype=np.uint8), ends


def bounded(text: str) -> bytes:
    """The bytes that are read: all, or as many of either end."""
    # A character has at least a byte: of a longer text, no more than the ends need encoding.
    if len(text) > MAX_BYTES:
        return _encoded(text[:_HALF])[:_HALF] + _encoded(text[-_HALF:])[-_HALF:]
    raw = _encoded(text)
    return raw if len(raw) <= MAX_BYTES else raw[:_HALF] + raw[-_HALF:]


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def hash_of(word: str) -> int:
    """The hash that `kernel.read` gives this word."""
    hashed = sum(byte * pow(BASE, i, _MODULUS) for i, byte in enumerate(_encoded(word).lower()))
    mixed = hashed * MIX % _MODULUS
    mixed ^= mixed >> 32
    return mixed * MIX % _MODULUS


def bucket_of(word: str) -> int:
    """The bucket of a word: the leading bits of its hash."""
    return hash_of(word) >> (64 - BITS)


def _groups() -> kernel.Bytes:
    """List of `VOCABULARY`, from 1, by a word's bucket; a bucket keeps its first."""
    table = np.zeros(kernel.BUCKETS, dtype=np.uint8)
    for number, words in reversed(list(enumerate(VOCABULARY.values(), start=1))):
        table[[bucket_of(word) for word in words.split()]] = number
    return table


GROUP = _groups()
