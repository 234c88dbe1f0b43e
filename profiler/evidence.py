"""The evidence a measured profile carries: its points, and by how much the law misses each."""

from __future__ import annotations

from dataclasses import dataclass

from profiler.core import MeasuredPoint, Profile
from profiler.step_fit import Point


@dataclass(frozen=True)
class Residual:
    """A measured point, what the law says of it, and (predicted - measured) / measured."""

    point: MeasuredPoint
    predicted_s: float
    error: float


def residuals(profile: Profile) -> list[Residual]:
    """The fitted points of a profile beside its law; empty where it carries none."""
    law, extra_s = profile.step_time, profile.request_overhead_s
    return [
        Residual(noun, point.predicted_s(law, extra_s), point.error(law, extra_s))
        for noun, point in ((p, Point(**p.model_dump())) for p in profile.points)
    ]


def as_noun(point: Point) -> MeasuredPoint:
    """A point in the form that profiles keep."""
    return MeasuredPoint(**{name: getattr(point, name) for name in MeasuredPoint.model_fields})
