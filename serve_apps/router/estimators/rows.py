"""Matrix products whose every row comes out the same, alone or among others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from profiler.compiled import compiled, inner

Floats = NDArray[np.float64]


def product(x: Floats, weights: Floats) -> Floats:
    """``x @ weights`` of float64 matrices.

    A BLAS chooses its order of summation by the number of rows; here a prompt's estimate is the
    same bit for bit whatever it is batched with. For one row it is also the quicker.

    Raises:
        ValueError: shapes that do not fit, which compiled code would read past the end of.
    """
    if x.ndim != 2 or weights.ndim != 2 or x.shape[1] != weights.shape[0]:
        raise ValueError(f"cannot multiply {x.shape} by {weights.shape}")
    if not x.dtype == weights.dtype == np.float64:
        raise ValueError(f"expected float64, found {x.dtype} and {weights.dtype}")
    return _product(np.ascontiguousarray(x), np.ascontiguousarray(weights))


@compiled
def _product(x: Floats, weights: Floats) -> Floats:
    out = np.zeros((x.shape[0], weights.shape[1]))
    for n in range(x.shape[0]):
        _add_row(x[n], weights, out[n])
    return out


@inner
def _add_row(row: Floats, weights: Floats, out: Floats) -> None:
    """Four terms at a time: fewer passes over the sums, which several terms share."""
    quads = row.size - row.size % 4
    for d in range(0, quads, 4):
        a, b, c, e = row[d], row[d + 1], row[d + 2], row[d + 3]
        for m in range(out.size):
            out[m] += (a * weights[d, m] + b * weights[d + 1, m]) + (
                c * weights[d + 2, m] + e * weights[d + 3, m]
            )
    for d in range(quads, row.size):
        for m in range(out.size):
            out[m] += row[d] * weights[d, m]
