"""The law of one step fitted to measured points.

A decode point is the mean time of a step in which N sequences each produce one token; a prefill
point is the time to first token of a request alone. Both are linear in the four coefficients of
`StepTime`, which non-negative least squares finds; each equation is divided by its time, so that
an error of 5 % counts the same on a short step and on a long prompt.
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


@dataclass(frozen=True)
class Point:
    """One measured time and the work done in it; repeats are already folded into their median.

    Attributes:
        kind: ``decode`` for a mean step, ``prefill`` for a lone request's time to first token.
        time_s: what was measured.
        steps: engine steps inside ``time_s``.
        prefill_tokens: P, summed over those steps, as are the next two.
        sequences: N, sequences decoding.
        kv_tokens: S, cached tokens that they attend to.
        spread: (highest - lowest) / median of the repeats.
        repeats: how many there were.
    """

    kind: Literal["decode", "prefill"]
    time_s: float
    steps: int = 1
    prefill_tokens: float = 0
    sequences: float = 0
    kv_tokens: float = 0.0
    spread: float = 0.0
    repeats: int = 1

    def predicted_s(self, law: StepTime) -> float:
        """What a law says this point takes."""
        one_step = law(self.prefill_tokens, self.sequences, self.kv_tokens)
        return one_step + law.base_s * (self.steps - 1)

    def error(self, law: StepTime) -> float:
        """(predicted - measured) / measured."""
        return self.predicted_s(law) / self.time_s - 1


def fit_step_time(points: Sequence[Point]) -> StepTime:
    """The non-negative law with the least squared relative error on the points.

    Raises:
        InputError: the points cannot tell the four coefficients apart.
    """
    rank = int(np.linalg.matrix_rank(_scaled(points)[0])) if points else 0
    if rank < 4:
        raise InputError(
            f"found {len(points)} measured points of rank {rank}, expected at least 4 that differ "
            "in prompt length, sequences and context; raise the time budget or max_model_len"
        )
    return rough_step_time(points)


def rough_step_time(points: Sequence[Point]) -> StepTime:
    """As `fit_step_time`, for any points: coefficients that they do not tell may come out zero."""
    from scipy.optimize import nnls

    rows, scale = _scaled(points)
    solution = nnls(rows, np.ones(len(points)))[0] / scale if points else np.zeros(4)
    base, per_prefill, per_sequence, per_kv = solution.tolist()
    return StepTime(
        base_s=base,
        per_prefill_token_s=per_prefill,
        per_sequence_s=per_sequence,
        per_kv_token_s=per_kv,
    )


def median_error(
    points: Sequence[Point], law: StepTime, kind: Literal["decode", "prefill"]
) -> float | None:
    """Median absolute relative error on the points of one kind; None where there are none."""
    errors = [abs(p.error(law)) for p in points if p.kind == kind]
    return median(errors) if errors else None


def _scaled(points: Sequence[Point]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The equations row . (a, b, c, d) = 1, one per point, and the scale of each column.

    Columns are divided by their largest entry: seconds per token and per step differ by orders
    of magnitude, which would spoil both the rank and the solution.
    """
    work = [(p.steps, p.prefill_tokens, p.sequences, p.kv_tokens) for p in points]
    times = np.array([p.time_s for p in points], dtype=np.float64).reshape(-1, 1)
    rows = np.array(work, dtype=np.float64).reshape(-1, 4) / times
    largest = rows.max(axis=0, initial=0.0)
    scale = np.where(largest > 0, largest, 1.0)
    return rows / scale, scale
