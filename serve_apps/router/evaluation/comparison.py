"""A comparison of routers: its figures, what they mean, and their spreads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from serve_apps.router.evaluation.bootstrap import Difference
from serve_apps.router.evaluation.metrics import Curve

SHARES = (1.0, 0.99, 0.97, 0.95)
DEFINITIONS = {
    "APGR": "mean over c in [0, 1] of PGR(c) = (a(c) - w) / (s - w), c: share sent to the strong",
    "CPT(50)": "least share of strong calls that recovers 50 % of the gap, after a running maximum",
    "CPT(80)": "least share of strong calls that recovers 80 % of the gap, after a running maximum",
    "AIQ": "mean score of the upper hull, from the cheapest single model's cost to the best's",
    **{
        f"cost@{share:.0%}": f"cost at {share:.0%} of the best single's score, over its own cost"
        for share in SHARES
    },
    "oracle share": "way from the zero router's AIQ to the oracle's; single samples flatter it",
    "worst lead": "least lead over the zero router's score at any cost in the range",
    "ECE": "mean |prediction - score| over 15 bins of equal width",
    "Brier": "mean squared difference of prediction and score",
}


@dataclass(frozen=True)
class Figure:
    """One metric over the splits."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over splits; inf where any split is."""
        return float(np.mean(self.values))

    @property
    def spread(self) -> float:
        """Standard deviation over splits; NaN where a split has no finite value."""
        with np.errstate(invalid="ignore"):
            return float(np.std(self.values))


@dataclass(frozen=True)
class Row:
    """A router's figures by metric, its leads over baselines, and its curve on the first split."""

    name: str
    figures: Mapping[str, Figure]
    leads: Mapping[str, Difference] = field(default_factory=dict)
    curve: Curve | None = None
    baseline: bool = False


@dataclass(frozen=True)
class Comparison:
    """A table of routers; ``lead_in`` is the metric that the leads are in."""

    title: str
    lead_in: str
    rows: tuple[Row, ...]
    splits: int
    prompts: int

    def row(self, name: str) -> Row:
        """The row of a router."""
        return next(r for r in self.rows if r.name == name)
