"""The law of one step fitted to measured points.

A decode point is the mean time of a step in which N sequences each produce one token; a prefill
point is the time to first token of a request alone; a mixed point is the time of a run of steps
that did both. Each is linear in the four coefficients of `StepTime` and in the overhead of a
request, which non-negative least squares finds. Each equation is divided by its time, so that an
error of 5 % counts the same on a short step and on a long prompt, and points far from the law
lose weight (Huber's M-estimate), so that a stall of the machine does not bend it. What the decode
points of each batch size are off by afterwards, shrunk for their noise, is the law's last term.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from profiler.core import StepTime
from profiler.errors import InputError

Floats = NDArray[np.float64]
Kind = Literal["decode", "prefill", "mixed"]

HUBER = 1.5
"""Residuals beyond so many standard deviations lose weight: 95 % efficient on normal noise."""
LEAST_SCALE = 0.01
"""The noise assumed at least: without it, points on a line would turn the others into outliers."""
REWEIGHTINGS = 8
BOOTSTRAPS = 200
MIXED_WEIGHT = 2.0
"""A mixed point is the mean of many steps of several sizes, and it is what service is made of."""
COEFFICIENTS = 4
LEAST_WIDTHS = 4
"""Batch sizes measured at least for a term of their own: with fewer, the line has fitted them."""


@dataclass(frozen=True)
class Point:
    """One measured time and the work done in it; repeats are already folded into their median.

    Attributes:
        kind: ``decode`` for a mean step, ``prefill`` for a lone request's time to first token,
            ``mixed`` for a run of steps.
        time_s: what was measured.
        steps: engine steps inside ``time_s``.
        prefill_tokens: P, summed over those steps, as are the next two.
        sequences: N, sequences decoding.
        kv_tokens: S, cached tokens that they attend to.
        overheads: requests whose time outside the engine's steps is inside ``time_s``.
        spread: (highest - lowest) / median of the repeats.
        repeats: how many there were.
    """

    kind: Kind
    time_s: float
    steps: int = 1
    prefill_tokens: float = 0
    sequences: float = 0
    kv_tokens: float = 0.0
    overheads: int = 0
    spread: float = 0.0
    repeats: int = 1

    def predicted_s(self, law: StepTime, overhead_s: float = 0.0) -> float:
        """What a law says this point takes."""
        each = self.steps
        mean_step = law(self.prefill_tokens / each, self.sequences / each, self.kv_tokens / each)
        return each * mean_step + overhead_s * self.overheads

    def error(self, law: StepTime, overhead_s: float = 0.0) -> float:
        """(predicted - measured) / measured."""
        return self.predicted_s(law, overhead_s) / self.time_s - 1


@dataclass(frozen=True)
class Fit:
    """A fitted law, the overhead of a request, and the 95 % interval of each coefficient."""

    law: StepTime
    overhead_s: float
    low: StepTime
    high: StepTime

    def error(self, point: Point) -> float:
        """(predicted - measured) / measured."""
        return point.error(self.law, self.overhead_s)

    def median_error(self, points: Sequence[Point], kind: Kind) -> float | None:
        """Median absolute relative error on the points of one kind; None where there are none."""
        errors = [abs(self.error(p)) for p in points if p.kind == kind]
        return median(errors) if errors else None


def fit_points(
    points: Sequence[Point],
    *,
    intervals: bool = True,
    by_batch: bool = False,
    rng: np.random.Generator | None = None,
) -> Fit:
    """The non-negative law with the least relative error on the points.

    The overhead of a request stays zero where the points cannot tell it. Intervals come from a
    bootstrap over the points, drawn within each kind; without them both ends are the law. With
    ``by_batch`` the law also has its term by batch size.

    Raises:
        InputError: the points cannot tell the four coefficients apart.
    """
    rows = _rows(points)
    rank = int(np.linalg.matrix_rank(_scaled(rows[:, :COEFFICIENTS])[0])) if points else 0
    if rank < COEFFICIENTS:
        raise InputError(
            f"found {len(points)} measured points of rank {rank}, expected at least 4 that differ "
            "in prompt length, sequences and context; raise the time budget or max_model_len"
        )
    weights = _weights(points)
    best = _solve(rows, weights)
    low = high = best
    if intervals:
        rng = rng or np.random.default_rng(0)
        low, high = _interval(rows, weights, [p.kind for p in points], best, rng)
    law = _law(best)
    if by_batch:
        law = law.model_copy(update={"batch_extra_s": _batch_extra_s(points, law)})
    return Fit(law, float(best[COEFFICIENTS]), _law(low), _law(high))


def rough_step_time(points: Sequence[Point]) -> StepTime:
    """A law from any points: coefficients that they do not tell may come out zero."""
    if not points:
        return _law(np.zeros(COEFFICIENTS + 1))
    return _law(_solve(_rows(points), _weights(points)))


def _weights(points: Sequence[Point]) -> Floats:
    """The weight of each point's squared error."""
    return np.array([MIXED_WEIGHT if p.kind == "mixed" else 1.0 for p in points])


def _rows(points: Sequence[Point]) -> Floats:
    """The equations row . (a, b, c, d, overhead) = 1, one per point."""
    work = [
        (p.steps, p.prefill_tokens, p.sequences, p.kv_tokens, p.overheads) for p in points
    ]  # fmt: skip
    times = np.array([p.time_s for p in points], dtype=np.float64).reshape(-1, 1)
    return np.asarray(np.array(work, dtype=np.float64).reshape(-1, COEFFICIENTS + 1) / times)


def _scaled(rows: Floats) -> tuple[Floats, Floats]:
    """Rows with columns divided by their largest entry, and those entries.

    Seconds per token and per step differ by orders of magnitude, which would spoil both the rank
    and the solution.
    """
    largest = rows.max(axis=0, initial=0.0)
    scale = np.where(largest > 0, largest, 1.0)
    return rows / scale, scale


def _solve(rows: Floats, given: Floats) -> Floats:
    """The coefficients (a, b, c, d, overhead); the overhead is left out where it is not told."""
    from scipy.optimize import nnls

    scaled, scale = _scaled(rows)
    if np.linalg.matrix_rank(scaled) < rows.shape[1]:
        scaled[:, COEFFICIENTS] = 0.0
    weights = np.sqrt(given)
    solution = np.zeros(rows.shape[1])
    for _ in range(REWEIGHTINGS):
        solution = nnls(scaled * weights[:, None], weights)[0]
        residuals = np.abs(scaled @ solution - 1)
        limit = HUBER * max(1.483 * float(np.median(residuals)), LEAST_SCALE)
        weights = np.sqrt(given * np.minimum(1.0, limit / np.maximum(residuals, 1e-12)))
    return np.asarray(solution / scale)


def _interval(
    rows: Floats,
    weights: Floats,
    kinds: Sequence[Kind],
    best: Floats,
    rng: np.random.Generator,
) -> tuple[Floats, Floats]:
    groups = [np.flatnonzero([k == kind for k in kinds]) for kind in sorted(set(kinds))]
    found = [best]
    for _ in range(BOOTSTRAPS):
        drawn = np.concatenate([rng.choice(group, len(group)) for group in groups])
        found.append(_solve(rows[drawn], weights[drawn]))
    low, high = np.percentile(found, [2.5, 97.5], axis=0)
    return np.minimum(low, best), np.maximum(high, best)


def _batch_extra_s(points: Sequence[Point], law: StepTime) -> tuple[float, ...]:
    """What each batch size takes beyond the line, straight between those that were measured.

    One measured k times keeps the share k / (k + 1) of its mean departure: noise is a part of it.
    Nothing where all departures are below the noise assumed at least.
    """
    found: dict[int, list[tuple[float, int]]] = {}
    for p in points:
        if p.kind == "decode":
            beyond_s = p.time_s - law(0, p.sequences, p.kv_tokens)
            found.setdefault(round(p.sequences), []).append((beyond_s, p.repeats))
    if len(found) < LEAST_WIDTHS:
        return ()
    widths, extra_s, telling = sorted(found), [], False
    for n in widths:
        line_s = law.base_s + law.per_sequence_s * n
        repeats = sum(k for _, k in found[n])
        total_s = sum(s * k for s, k in found[n])
        extra_s.append(max(total_s / (repeats + 1), -line_s))
        telling |= abs(extra_s[-1]) > LEAST_SCALE * line_s
    if not telling:
        return ()
    every = np.interp(np.arange(1, widths[-1] + 1), widths, extra_s)
    return (0.0, *every.tolist())


def _law(solution: Floats) -> StepTime:
    base, per_prefill, per_sequence, per_kv = solution[:COEFFICIENTS].tolist()
    return StepTime(
        base_s=base,
        per_prefill_token_s=per_prefill,
        per_sequence_s=per_sequence,
        per_kv_token_s=per_kv,
    )
