"""Expected answer lengths where the router tells none: the plan's, then what is seen."""

from __future__ import annotations

from placement.plan import AUTO, Plan
from serve_apps.router.table import Range, nearest_range

SMOOTHING = 0.02
DEFAULT_TOKENS = 256.0
"""Where the plan has no route at all."""


class Lengths:
    """Mean output tokens by stream and range of input tokens."""

    def __init__(self, plan: Plan) -> None:
        sums: dict[tuple[str, Range], tuple[float, float]] = {}
        for route in plan.routes:
            key = route.stream, route.bucket.input_range
            rate, tokens = sums.get(key, (0.0, 0.0))
            rate += route.rate_rps
            sums[key] = rate, tokens + route.rate_rps * route.bucket.output_tokens
        self._mean: dict[str, dict[Range, float]] = {}
        for (stream, inputs), (rate, tokens) in sorted(sums.items()):
            self._mean.setdefault(stream, {})[inputs] = tokens / rate

    def expected(self, model: str, input_tokens: int, limit: int | None) -> float:
        """Output tokens of a request that names this model, or ``auto``, within its limit."""
        means = self._mean.get(model) or self._mean.get(AUTO)
        mean = means[nearest_range(means, input_tokens)] if means else DEFAULT_TOKENS
        return mean if limit is None else min(mean, max(limit, 1))

    def learn(self, model: str, input_tokens: int, output_tokens: int) -> None:
        """Take in how long an answer was."""
        means = self._mean.get(model) or self._mean.get(AUTO)
        if means:
            found = nearest_range(means, input_tokens)
            means[found] += SMOOTHING * (output_tokens - means[found])
