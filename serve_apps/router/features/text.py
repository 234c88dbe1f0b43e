"""The default features: hand-made ones, and hashed words and characters seen through an SVD.

No model file, no library but NumPy at request time. Words, pairs of words and a sample of the
runs of four characters are hashed into buckets and weighted by TF-IDF (Sparck Jones, 1972); the
leading directions of the training prompts (latent semantic analysis, Deerwester et al., 1990)
keep what they have in common, so that the vector is short and dense.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from serve_apps.router.estimates import Arrays
from serve_apps.router.features.hand import HandFeatures
from serve_apps.router.features.scan import Hashes, Integers, Scan, scan
from serve_apps.router.prompts import Prompt

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

WORD_BITS = 14
GRAM_BITS = 14
GRAM_SIZE = 4
KEPT_GRAMS = np.uint64(0x3)
"""Of the runs of characters one in four is read, always the same ones: two bits of the hash."""
MIN_PROMPTS = 2
"""A bucket that fewer training prompts fill says nothing about others."""


class TextFeatures:
    """``[prompts, hand features + dimensions]``, text directions scaled by ``weight``.

    ``weight`` sets how much the text counts in a distance beside the hand features, each of
    which has variance one.
    """

    name = "text"

    def __init__(
        self,
        dimensions: int = 48,
        weight: float = 3.0,
        hand: HandFeatures | None = None,
        table: Singles | None = None,
    ) -> None:
        self.dimensions = dimensions
        self.weight = weight
        self._hand = hand or HandFeatures()
        # Per bucket: its row of the projection times its IDF, and the square of its IDF.
        self._table = table

    def fit(self, prompts: Sequence[Prompt]) -> Self:
        """Learn IDF weights and directions from the training prompts."""
        scanned = scan([p.text for p in prompts])
        table = _table(scanned, self.dimensions)
        return type(self)(self.dimensions, self.weight, self._hand.fit(prompts), table)

    def transform(self, prompts: Sequence[Prompt]) -> Floats:
        """One row per prompt.

        Raises:
            ValueError: the extractor was not fitted.
        """
        if self._table is None:
            raise ValueError("TextFeatures.fit comes before transform")
        scanned = scan([p.text for p in prompts])
        hand = self._hand.of_scan(prompts, scanned)
        words = _sums(self._table, scanned.rows, *_words(scanned))
        words += _sums(self._table, scanned.rows, *_pairs(scanned))
        grams = _sums(self._table, scanned.rows, *_grams(scanned))
        text = (_unit(words) + _unit(grams)) * (self.weight * np.sqrt(0.5))
        return np.concatenate([hand, text], axis=1)

    def arrays(self) -> Arrays:
        """Settings, hand features and table; the table in half precision, which is enough."""
        assert self._table is not None
        kept = np.flatnonzero(self._table[:, -1])
        return {
            **{f"hand.{name}": value for name, value in self._hand.arrays().items()},
            "weight": np.array(self.weight),
            "buckets": kept.astype(np.int32),
            "table": self._table[kept].astype(np.float16),
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """The extractor these arrays came from."""
        rows: NDArray[Any] = arrays["table"]
        table = np.zeros(((1 << WORD_BITS) + (1 << GRAM_BITS), rows.shape[1]), dtype=np.float32)
        table[arrays["buckets"]] = rows
        hand = HandFeatures.from_arrays({k: arrays[f"hand.{k}"] for k in ("mean", "spread")})
        return cls(rows.shape[1] - 1, float(arrays["weight"]), hand, table)


def _words(s: Scan) -> tuple[Integers, Integers]:
    return s.word_row, _bucket(s.word_hash, WORD_BITS)


def _pairs(s: Scan) -> tuple[Integers, Integers]:
    row, hashes = s.pairs()
    return row, _bucket(hashes, WORD_BITS)


def _grams(s: Scan) -> tuple[Integers, Integers]:
    row, hashes = s.grams(GRAM_SIZE)
    kept = (hashes & KEPT_GRAMS) == 0
    return row[kept], _bucket(hashes[kept], GRAM_BITS) + (1 << WORD_BITS)


def _bucket(hashes: Hashes, bits: int) -> Integers:
    return (hashes >> np.uint64(64 - bits)).astype(np.int64)


def _sums(table: Singles, rows: int, row: Integers, bucket: Integers) -> Floats:
    """Per text the sum of its buckets' rows of the table; ``row`` is ascending."""
    sums = np.zeros((rows, table.shape[1]))
    if row.size:
        first = np.flatnonzero(np.concatenate([[True], row[1:] != row[:-1]]))
        sums[row[first]] = np.add.reduceat(table[bucket], first, axis=0)
    return sums


def _unit(sums: Floats) -> Floats:
    """Projections over the length of the TF-IDF vector, whose square is the last column.

    Repeats count as if each were a word of its own, which spares sorting them out.
    """
    return np.asarray(sums[:, :-1] / np.sqrt(np.maximum(sums[:, -1:], 1e-6)))


def _table(s: Scan, dimensions: int) -> Singles:
    """IDF and leading right singular vectors of the training prompts."""
    from scipy import sparse
    from sklearn.utils.extmath import randomized_svd

    buckets = (1 << WORD_BITS) + (1 << GRAM_BITS)
    parts = (_words(s), _pairs(s), _grams(s))
    row = np.concatenate([part[0] for part in parts])
    bucket = np.concatenate([part[1] for part in parts])
    counts = sparse.csr_array((np.ones(row.size), (row, bucket)), shape=(s.rows, buckets))
    counts.sum_duplicates()
    filled = np.bincount(counts.indices, minlength=buckets)
    idf = np.where(filled >= min(MIN_PROMPTS, s.rows), np.log((1 + s.rows) / (1 + filled)) + 1, 0.0)
    lengths = [
        np.sqrt(np.maximum(counts[:, part] @ idf[part] ** 2, 1e-6))
        for part in (slice(0, 1 << WORD_BITS), slice(1 << WORD_BITS, buckets))
    ]
    weighted = sparse.hstack(
        [
            sparse.diags_array(1 / lengths[0]) @ counts[:, : 1 << WORD_BITS],
            sparse.diags_array(1 / lengths[1]) @ counts[:, 1 << WORD_BITS :],
        ]
    ) @ sparse.diags_array(idf)
    size = min(dimensions, s.rows)
    _, _, directions = randomized_svd(sparse.csr_matrix(weighted), size, random_state=0)
    table = np.zeros((buckets, dimensions + 1), dtype=np.float32)
    table[:, :size] = directions.T * idf[:, None]
    table[:, -1] = idf**2
    # What an artefact keeps is what training saw: no drift after saving.
    return table.astype(np.float16).astype(np.float32)
