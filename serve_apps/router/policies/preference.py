"""How much quality each request wants: a name's suffix or a header, to worth."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from profiler.errors import InputError
from serve_apps.router.evaluation.metrics import Curve, best_single, upper_hull
from serve_apps.router.policies.base import Answer, Ask, Choice, Floats, Policy

Kind = Literal["default", "quality", "cost", "threshold"]
_EXPECTED = "expected auto, auto:quality=0.95, auto:cost, auto:cost=2.5, or router-NAME-0.116"
_BOUNDS = "quality lies above 0, at most 1; cost is dollars per 1,000 requests, above 0"


@dataclass(frozen=True)
class Preference:
    """What a request asks for.

    ``quality``: so much of the best single model's quality, in (0, 1]. ``cost``: the cheapest, or
    with a value at most so many dollars per thousand requests in the mean.
    ``threshold``: P(strong) - P(weak) at which two models switch, as RouteLLM's users write it.
    """

    kind: Kind = "default"
    value: float = math.nan


def parse_preference(model: str) -> Preference | None:
    """Read a ``model`` field; None where it names no router.

    Raises:
        InputError: it names a router and asks for something no router knows.
    """
    if found := re.fullmatch(r"router-[a-z0-9_]+-(\d*\.?\d+)", model):
        return Preference("threshold", float(found[1]))
    if model == "auto":
        return Preference()
    if not model.startswith("auto:"):
        return None
    wish = model.removeprefix("auto:")
    if wish == "cost":
        return Preference("cost")
    kind, _, number = wish.partition("=")
    value = _number(number)
    if kind == "cost" and 0 < value < math.inf:
        return Preference("cost", value)
    if kind != "quality" or not 0 < value <= 1:
        raise InputError(f"model: found {model!r}, {_EXPECTED}; {_BOUNDS}")
    return Preference("quality", value)


def _number(text: str) -> float:
    """NaN where it is none; only what a person would write, not ``1_0``."""
    return float(text) if re.fullmatch(r"\d*\.?\d+(e-?\d+)?", text, re.ASCII) else math.nan


@dataclass(frozen=True)
class WorthTable:
    """Calibration: the worth at which a router reaches a share of the best single's quality.

    ``worth`` rises from 0; ``share`` and ``cost`` (mean per request) are those measured at it.
    """

    worth: Floats
    share: Floats
    cost: Floats

    def for_quality(self, share: float) -> float:
        """The least worth known to reach the share; where none does, that of the highest share."""
        reached = np.flatnonzero(self.share >= share - 1e-12)
        return float(self.worth[reached[0] if reached.size else self.share.argmax()])

    def for_cost(self, cost: float) -> float:
        """The largest worth known to keep the mean cost per request; 0 where none does."""
        kept = np.flatnonzero(np.maximum.accumulate(self.cost) <= cost * (1 + 1e-12))
        return float(self.worth[kept[-1]]) if kept.size else 0.0


def calibrate(
    expected: Floats, price: Floats, quality: Floats, cost: Floats, points: int = 200
) -> WorthTable:
    """Try worths of all magnitudes on prompts kept for it; matrices [prompts, models].

    The rule sees ``expected`` and ``price``; what it reaches is counted in ``quality``, ``cost``.
    """
    ladder = np.concatenate([[0.0], _ladder(expected, price, points)])
    best = float(quality[:, best_single(quality, cost)].mean())
    rows = np.arange(len(expected))
    chosen = [(worth * expected - price).argmax(axis=1) for worth in ladder]
    return WorthTable(
        worth=ladder,
        share=np.array([quality[rows, c].mean() / best for c in chosen]),
        cost=np.array([cost[rows, c].mean() for c in chosen]),
    )


def _ladder(expected: Floats, price: Floats, points: int) -> Floats:
    """Quantiles of the worths at which a prompt's choice moves off its cheapest model."""
    cheapest = price.argmin(axis=1)[:, None]
    rise = expected - np.take_along_axis(expected, cheapest, axis=1)
    run = price - np.take_along_axis(price, cheapest, axis=1)
    moves = run[rise > 1e-9] / rise[rise > 1e-9]
    if not moves.size:
        return np.array([1.0])
    return np.unique(np.quantile(moves, np.linspace(0, 1, points))) * (1 + 1e-9)


def reachable(table: WorthTable) -> Curve:
    """The hull of what the calibration reached: mean cost, share of the best single's quality."""
    return upper_hull(table.cost, table.share)


@dataclass(frozen=True)
class ByPreference:
    """Another policy, at the worth that each request's preference stands for."""

    policy: Policy
    table: WorthTable
    name: str = "preference"

    def choose(self, ask: Ask, seen: Sequence[Answer] = ()) -> Choice:
        """As the inner policy does."""
        return self.policy.choose(ask, seen)

    def with_preference(self, ask: Ask, wish: Preference) -> Ask:
        """The request with its worth set; by default it is the policy's own.

        The table's cost is in dollars per request. A threshold t is the gain in quality that just
        pays for the dearest model over the cheapest; of two models it is the gap at which they
        switch.
        """
        match wish.kind:
            case "threshold":
                # What cannot be served now stands there at a price that is none.
                prices = [ask.price[i] for i in ask.candidates()]
                span = max(prices) - min(prices)
                return replace(ask, worth=span / wish.value if wish.value else math.inf)
            case "quality":
                return replace(ask, worth=self.table.for_quality(wish.value))
            case "cost" if math.isnan(wish.value):
                return replace(ask, worth=0.0)
            case "cost":
                return replace(ask, worth=self.table.for_cost(wish.value / 1000))
            case _:
                return ask
