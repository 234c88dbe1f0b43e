"""What tokens are charged: set by the operator, else the mean price at which a plan serves them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from placement.plan import AUTO, Plan
from profiler.core import NonNegative, Noun

PER = 1e6


class TokenPrice(Noun):
    """USD per million tokens."""

    input_usd: NonNegative
    output_usd: NonNegative

    def of(self, input_tokens: float, output_tokens: float) -> float:
        """USD for these tokens."""
        return (input_tokens * self.input_usd + output_tokens * self.output_usd) / PER


def plan_prices(plan: Plan) -> Mapping[str, TokenPrice]:
    """Rent of each model's groups over the tokens they serve at planned rates, in and out alike.

    Sizes are the means of the plan's buckets: an estimate. ``auto`` has the mean over the fleet.
    A model that serves nothing under the plan has no price.
    """
    models = {g.name: g.config.model for g in plan.groups}
    rent: dict[str, float] = defaultdict(float)
    tokens: dict[str, float] = defaultdict(float)
    for group in plan.groups:
        rent[group.config.model] += group.total_usd_per_hour
        rent[AUTO] += group.total_usd_per_hour
    for route in plan.routes:
        size = route.bucket.input_tokens + route.bucket.output_tokens
        for name, share in route.shares.items():
            served = route.rate_rps * share * size * 3600
            tokens[models[name]] += served
            tokens[AUTO] += served
    return {
        model: TokenPrice(input_usd=usd, output_usd=usd)
        for model, hourly in rent.items()
        if tokens[model] > 0
        for usd in (hourly / tokens[model] * PER,)
    }
