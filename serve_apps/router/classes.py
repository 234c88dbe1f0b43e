"""The plan's request classes as a learned router sees them: by size and difficulty."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from placement.plan import AUTO, Plan, Route
from placement.problem import RequestClass
from profiler.core import SizeBucket, Slo
from serve_apps.router.table import Range, nearest_range

SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True)
class PlanClass:
    """Requests of one size and difficulty that name no model.

    ``worth`` is lambda_Q in dollars per request and unit of quality, floors of the class
    included; ``models`` is the share of each model, ``groups`` that of each group by model.
    """

    label: str
    bucket: SizeBucket
    difficulty: int | None
    slo: Slo
    worth: float
    models: Mapping[str, float]
    groups: Mapping[str, Mapping[str, float]]


class PlanClasses:
    """Finds the class of a request."""

    def __init__(self, plan: Plan) -> None:
        """
        Raises:
            ValueError: the plan routes no request that names no model.
        """
        self._by_size: dict[Range, dict[Range, dict[int, PlanClass]]] = {}
        for route in plan.routes:
            if route.stream == AUTO and any(route.shares.values()):
                outputs = self._by_size.setdefault(route.bucket.input_range, {})
                bins = outputs.setdefault(route.bucket.output_range, {})
                bins[route.difficulty or 0] = _class(plan, route)
        if not self._by_size:
            raise ValueError("the plan has no route for requests that name no model")
        self.all: tuple[PlanClass, ...] = tuple(
            c for outs in self._by_size.values() for bins in outs.values() for c in bins.values()
        )

    def find(self, input_tokens: float, output_tokens: float, difficulty: int) -> PlanClass:
        """The class nearest in input, then in output tokens, then in difficulty."""
        outputs = self._by_size[nearest_range(self._by_size, input_tokens)]
        bins = outputs[nearest_range(outputs, output_tokens)]
        found = bins.get(difficulty)
        return found or bins[min(bins, key=lambda k: abs(k - difficulty))]


def _class(plan: Plan, route: Route) -> PlanClass:
    by_model: dict[str, float] = defaultdict(float)
    groups: dict[str, dict[str, float]] = defaultdict(dict)
    model_of = {g.name: g.config.model for g in plan.groups}
    for name, share in route.shares.items():
        if share > 0:
            by_model[model_of[name]] += share
            groups[model_of[name]][name] = share
    label = str(RequestClass(AUTO, route.bucket, route.rate_rps, route.difficulty))
    prices = plan.prices
    worth = prices.quality.get(AUTO, 0.0) + prices.floors.get(label, 0.0) if prices else 0.0
    return PlanClass(
        label=label,
        bucket=route.bucket,
        difficulty=route.difficulty,
        slo=route.slo or plan.slo,
        worth=worth / SECONDS_PER_HOUR,
        models=dict(by_model),
        groups={m: dict(shares) for m, shares in groups.items()},
    )


def mean_output_tokens(plan: Plan) -> dict[str, float]:
    """The mean planned answer per stream; under ``auto`` that of all requests without its own."""

    def mean(streams: Collection[str]) -> float:
        routes = [r for r in plan.routes if r.stream in streams]
        rate = sum(r.rate_rps for r in routes)
        return sum(r.rate_rps * r.bucket.output_tokens for r in routes) / rate

    streams = {r.stream for r in plan.routes}
    return {AUTO: mean(streams)} | {s: mean({s}) for s in streams}
