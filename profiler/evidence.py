"""How sure a fitted step-time law is: intervals of its coefficients, residuals of its points.

The fit minimises relative errors, so with rows R of work over time and residuals e the covariance
of the coefficients is s^2 (R' R)^-1, s^2 = sum e^2 / (n - k), as in any linear regression. A
coefficient that the fit pressed to zero has no interval of this kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from profiler.core import MeasuredPoint, Profile, StepTime
from profiler.step_fit import Point


@dataclass(frozen=True)
class Residual:
    """A measured point, what the law says of it, and (predicted - measured) / measured."""

    point: MeasuredPoint
    predicted_s: float
    error: float


def residuals(profile: Profile) -> list[Residual]:
    """The fitted points of a profile beside its law; empty where it carries none."""
    law = profile.step_time
    return [
        Residual(noun, point.predicted_s(law), point.error(law))
        for noun, point in ((p, Point(**p.model_dump())) for p in profile.points)
    ]


def interval(points: Sequence[Point], law: StepTime) -> tuple[StepTime, StepTime] | None:
    """Both ends of each coefficient's 95 % interval; None where the points are too few to tell."""
    from scipy.stats import t

    values = np.array(list(law.model_dump().values()))
    active = np.flatnonzero(values > 0)
    freedom = len(points) - len(active)
    if freedom < 1:
        return None
    work = np.array([(p.steps, p.prefill_tokens, p.sequences, p.kv_tokens) for p in points], float)
    rows = (work / np.array([[p.time_s] for p in points]))[:, active]
    scale = rows.max(axis=0)
    if not scale.all() or np.linalg.matrix_rank(rows / scale) < len(active):
        return None
    scaled = rows / scale
    errors = np.array([p.error(law) for p in points])
    covariance = np.linalg.inv(scaled.T @ scaled) * (errors @ errors) / freedom
    half = np.zeros(4)
    half[active] = t.ppf(0.975, freedom) * np.sqrt(np.diag(covariance)) / scale
    return _law(np.maximum(values - half, 0)), _law(values + half)


def _law(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> StepTime:
    return StepTime.model_validate(dict(zip(StepTime.model_fields, values.tolist(), strict=True)))
