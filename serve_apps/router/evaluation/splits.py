"""Which prompts train and which test: by hash, so that a prompt that recurs is on one side only."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from profiler.errors import InputError

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Positions of prompts to learn from and to be judged on."""

    train: Rows
    test: Rows


def hash_splits(
    keys: Sequence[str], folds: int = 5, *, repeats: int = 1, seed: int = 0
) -> list[Split]:
    """Each key is tested once in every repeat: ``folds`` * ``repeats`` splits.

    ``keys`` are prompts, or their subjects for tests on unseen ones.

    Raises:
        InputError: a fold has no prompt to test, or none to learn from.
    """
    found = []
    for repeat in range(seed, seed + repeats):
        fold = np.array([_hash(f"{repeat}:{key}") % folds for key in keys])
        for f in range(folds):
            split = Split(np.flatnonzero(fold != f), np.flatnonzero(fold == f))
            if not split.train.size or not split.test.size:
                raise InputError(
                    f"found {len(set(keys))} different prompts or subjects, too few for {folds} "
                    "folds; give more outcomes, or fewer folds"
                )
            found.append(split)
    return found


def _hash(text: str) -> int:
    # crc32's low bits alone spread poorly over small folds.
    mixed = zlib.crc32(text.encode("utf-8", "surrogatepass")) * 2654435761 % 2**32
    return mixed >> 8
