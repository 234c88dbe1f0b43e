"""The default features: hand-made ones, and hashed words and characters seen through an SVD.

No model file, and a pass of compiled code over the bytes. Words, pairs of words and a sample of the
runs of four characters are hashed into buckets and weighted by TF-IDF (Sparck Jones, 1972); the
leading directions of the training prompts (latent semantic analysis, Deerwester et al., 1990)
keep what they have in common, so that the vector is short and dense.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from serve_apps.router.estimates import Arrays
from serve_apps.router.features.hand import HandFeatures, around
from serve_apps.router.features.kernel import BUCKETS, features
from serve_apps.router.features.scan import GROUP, Scan, joined, scan
from serve_apps.router.features.vocabulary import VOCABULARY
from serve_apps.router.prompts import Prompt

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

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
        data, ends = joined([p.text for p in prompts])
        return features(
            data,
            ends,
            GROUP,
            len(VOCABULARY),
            around(prompts),
            self._hand.mean,
            self._hand.spread,
            self._table,
            self.weight * sqrt(0.5),
        )

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
        table = np.zeros((2 * BUCKETS, rows.shape[1]), dtype=np.float32)
        table[arrays["buckets"]] = rows
        hand = HandFeatures.from_arrays({k: arrays[f"hand.{k}"] for k in ("mean", "spread")})
        return cls(rows.shape[1] - 1, float(arrays["weight"]), hand, table)


def _table(s: Scan, dimensions: int) -> Singles:
    """IDF and leading right singular vectors of the training prompts."""
    from scipy import sparse
    from sklearn.utils.extmath import randomized_svd

    row = [np.repeat(np.arange(s.rows), np.diff(ends)) for ends in (s.word_ends, s.gram_ends)]
    bucket = np.concatenate([s.words, s.grams])
    buckets = 2 * BUCKETS
    counts = sparse.csr_array(
        (np.ones(bucket.size), (np.concatenate(row), bucket)), shape=(s.rows, buckets)
    )
    counts.sum_duplicates()
    filled = np.bincount(counts.indices, minlength=buckets)
    idf = np.where(filled >= min(MIN_PROMPTS, s.rows), np.log((1 + s.rows) / (1 + filled)) + 1, 0.0)
    lengths = [
        np.sqrt(np.maximum(counts[:, part] @ idf[part] ** 2, 1e-6))
        for part in (slice(0, BUCKETS), slice(BUCKETS, buckets))
    ]
    weighted = sparse.hstack(
        [
            sparse.diags_array(1 / lengths[0]) @ counts[:, :BUCKETS],
            sparse.diags_array(1 / lengths[1]) @ counts[:, BUCKETS:],
        ]
    ) @ sparse.diags_array(idf)
    size = min(dimensions, s.rows)
    _, _, leading = randomized_svd(sparse.csr_matrix(weighted), size, random_state=0)
    table = np.zeros((buckets, dimensions + 1), dtype=np.float32)
    table[:, :size] = leading.T * idf[:, None]
    table[:, -1] = idf**2
    # What an artefact keeps is what training saw: no drift after saving.
    return table.astype(np.float16).astype(np.float32)
