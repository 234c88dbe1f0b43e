"""Matrix products and kernels whose every row comes out the same, alone or among others."""

from __future__ import annotations

from math import exp

import numpy as np
from numpy.typing import NDArray

from profiler.compiled import compiled, inner

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


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


def line(raw: Floats, slope: Floats, shift: Floats, edge: float) -> Floats:
    """``slope * raw + shift``, within ``edge`` of 0 and 1; ``raw`` [..., models].

    Raises:
        ValueError: shapes that do not fit.
    """
    models = raw.shape[-1]
    if slope.shape != (models,) or shift.shape != (models,):
        raise ValueError(f"cannot draw lines of {slope.shape} and {shift.shape} for {raw.shape}")
    rows = np.ascontiguousarray(raw).reshape(-1, models)
    return _line(rows, slope, shift, edge).reshape(raw.shape)


@compiled
def _line(raw: Floats, slope: Floats, shift: Floats, edge: float) -> Floats:
    out = np.empty(raw.shape)
    for n in range(raw.shape[0]):
        for m in range(raw.shape[1]):
            out[n, m] = _within(slope[m] * raw[n, m] + shift[m], edge, 1.0 - edge)
    return out


def drawn_in(told: Floats, middle: Floats, trust: float, edge: float) -> Floats:
    """See `gaps.shrunk`.

    Raises:
        ValueError: shapes that do not fit.
    """
    models = told.shape[-1]
    if middle.ndim != 1 or middle.size > models:
        raise ValueError(f"cannot draw {told.shape} in to {middle.shape}")
    rows = np.ascontiguousarray(told).reshape(-1, models)
    return _drawn_in(rows, middle, trust, edge).reshape(told.shape)


@compiled
def _drawn_in(told: Floats, middle: Floats, trust: float, edge: float) -> Floats:
    out = told.copy()
    for n in range(out.shape[0]):
        own, apart, beyond = out[n, : middle.size], 0.0, 0.0
        for m in range(own.size):
            apart += own[m] - middle[m]
        apart /= max(middle.size, 1)
        for m in range(own.size):
            own[m] -= (own[m] - middle[m] - apart) * (1.0 - trust)
            beyond = max(beyond, own[m] - (1.0 - edge))
        for m in range(own.size):
            own[m] = _within(own[m] - beyond, edge, 1.0)
    return out


def grown(
    x: Floats, weights: Floats, bias: Floats, smear: Floats, longest: Floats, most: float
) -> Floats:
    """``exp(x @ weights + bias) * smear - 1``, at least 1, at most ``longest``; ``most`` is the
    largest exponent.

    Raises:
        ValueError: shapes that do not fit.
    """
    models = weights.shape[-1:]
    if x.ndim != 2 or weights.ndim != 2 or x.shape[1] != weights.shape[0]:
        raise ValueError(f"cannot multiply {x.shape} by {weights.shape}")
    if not bias.shape == smear.shape == longest.shape == models:
        raise ValueError(f"expected {models} figures of each, found {bias.shape}")
    return _grown(np.ascontiguousarray(x), weights, bias, smear, longest, most)


@compiled
def _grown(
    x: Floats, weights: Floats, bias: Floats, smear: Floats, longest: Floats, most: float
) -> Floats:
    out = np.zeros((x.shape[0], weights.shape[1]))
    for n in range(x.shape[0]):
        _add_row(x[n], weights, out[n])
        for m in range(bias.size):
            log = out[n, m] + bias[m]
            tokens = exp(most if log > most else log) * smear[m] - 1.0
            out[n, m] = _within(tokens, 1.0, longest[m])
    return out


@compiled
def kernel_ridge(
    x: Floats,
    columns: Integers,
    points: Floats,
    squares: Floats,
    typical: Floats,
    shapes: Floats,
    weights: Floats,
    linear: Floats,
    bias: Floats,
) -> Floats:
    """``[rows, outputs]``: sums of Gaussian kernels times ``weights``, plus a plain regression.

    A kernel is one of distances in a block of columns. The blocks stand one below the other in
    ``columns`` (block, column of ``x``) and ``points`` [columns, landmarks], which are the
    landmarks times -2 / typical; ``squares`` [blocks, landmarks] are theirs over typical. A row of
    ``shapes`` is of one output: the width, and the weight of each block's kernel. Shapes must fit.
    """
    rows, (blocks, landmarks), outputs = x.shape[0], squares.shape, bias.size
    out = np.zeros((rows, outputs))
    near, kernel = np.empty((blocks, landmarks)), np.empty(landmarks)
    own = np.empty(columns.shape[0])
    for n in range(rows):
        _distances(x[n], columns, points, squares, typical, own, near)
        _add_row(x[n], linear, out[n])
        for m in range(outputs):
            if m == 0 or not _same(shapes[m], shapes[m - 1]):
                _kernel(near, shapes[m], kernel)
            total = 0.0
            for d in range(landmarks):
                total += kernel[d] * weights[m, d]
            out[n, m] += total + bias[m]
    return out


@inner
def _distances(
    row: Floats,
    columns: Integers,
    points: Floats,
    squares: Floats,
    typical: Floats,
    own: Floats,
    near: Floats,
) -> None:
    """Into ``near``: squared distances to the landmarks by block, over the typical one."""
    for i in range(own.size):
        own[i] = row[columns[i, 1]]
    first = 0
    for block in range(near.shape[0]):
        last = first
        square = 0.0
        while last < own.size and columns[last, 0] == block:
            square += own[last] * own[last]
            last += 1
        square /= typical[block]
        for d in range(near.shape[1]):  # written out, as all here: arrays take long to compile
            near[block, d] = squares[block, d] + square
        _add_row(own[first:last], points[first:last], near[block])
        first = last


@inner
def _same(a: Floats, b: Floats) -> bool:
    apart = 0
    for i in range(a.size):
        apart += a[i] != b[i]
    return apart == 0


@inner
def _kernel(near: Floats, shape: Floats, kernel: Floats) -> None:
    """Weighted sum of the blocks' kernels; see `kernel_ridge` for the shape."""
    for d in range(kernel.size):
        kernel[d] = 0.0
    for block in range(near.shape[0]):
        weight = shape[1 + block]
        if weight != 0.0:
            for d in range(kernel.size):
                apart = 0.0 if near[block, d] < 0.0 else near[block, d]  # by rounding
                kernel[d] += weight * exp(apart / -shape[0])


@inner
def _within(value: float, low: float, high: float) -> float:
    """What is no number stays none, that it be found out."""
    if value < low:
        return low
    return high if value > high else value


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
