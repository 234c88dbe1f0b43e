"""The field's metrics, each with its definition; pure functions of NumPy arrays.

Two models: w and s are the mean scores of the weak and the strong model, c the share of prompts
sent to the strong one, a(c) the mean score then. A pool: a curve is a set of points (mean cost,
mean score) that a router reaches at some setting; mixing two settings at random reaches every
point between them, so a curve stands for its upper hull.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Choices = NDArray[np.int64]


@dataclass(frozen=True)
class Curve:
    """Points of a router, by rising cost: ``cost`` and ``quality`` (mean score) of each."""

    cost: Floats
    quality: Floats

    def at(self, cost: Floats | float) -> Floats:
        """Quality at these costs: linear between points, flat past the last.

        Below the first point it is 0: for so little, the router answers nothing.
        """
        return np.asarray(np.interp(cost, self.cost, self.quality, left=0.0))


def pgr_curve(score: Floats, weak: Floats, strong: Floats) -> Curve:
    """PGR(c) = (a(c) - w) / (s - w), prompts sent to the strong model by falling ``score``.

    All ``[prompts]``. ``cost`` of the curve is c, its ``quality`` is PGR. Tied prompts are sent in
    random order, in expectation: the curve is straight across a tie. NaN throughout where s = w.
    """
    order = np.argsort(-score, kind="stable")
    gain = np.concatenate([[0.0], np.cumsum((strong - weak)[order])])
    ranked = score[order]
    last_of_tie = np.concatenate([[True], ranked[1:] != ranked[:-1], [True]])
    at = np.flatnonzero(last_of_tie)
    total = gain[-1]
    pgr = gain[at] / total if abs(total) > 1e-12 else np.full(at.size, np.nan)
    return Curve(cost=at / score.size, quality=pgr)


def apgr(score: Floats, weak: Floats, strong: Floats) -> float:
    """APGR: the integral of PGR(c) over c from 0 to 1. Random is 0.5 in expectation; not capped.

    Ong et al., RouteLLM (arXiv 2406.18665), section 2, integrated exactly instead of at ten points.
    """
    return area(pgr_curve(score, weak, strong))


def area(curve: Curve) -> float:
    """The integral of a curve over its own range of cost."""
    return _trapezes(curve.quality, curve.cost)


def _trapezes(y: Floats, x: Floats) -> float:
    return float(np.diff(x) @ (y[1:] + y[:-1]) / 2)


def cpt(score: Floats, weak: Floats, strong: Floats, pgr: float) -> float:
    """CPT(x): the least share of strong calls with PGR >= x, after a running maximum of PGR."""
    return cost_to_reach(pgr_curve(score, weak, strong), pgr)


def cost_to_reach(curve: Curve, quality: float) -> float:
    """The least cost at which a curve's running maximum reaches ``quality``; inf where never."""
    best = np.maximum.accumulate(curve.quality)
    reached = np.flatnonzero(best >= quality - 1e-12)
    if not reached.size:
        return float("inf")
    i = int(reached[0])
    if i == 0:
        return float(curve.cost[0])
    low, high = curve.quality[i - 1], curve.quality[i]
    part = (quality - low) / (high - low) if high > low else 1.0
    return float(curve.cost[i - 1] + np.clip(part, 0.0, 1.0) * (curve.cost[i] - curve.cost[i - 1]))


def realised(choice: Choices, quality: Floats, cost: Floats) -> tuple[float, float]:
    """Mean cost and mean score of a choice of one model per prompt; matrices [prompts, models]."""
    rows = np.arange(choice.size)
    return float(cost[rows, choice].mean()), float(quality[rows, choice].mean())


def upper_hull(cost: Floats, quality: Floats) -> Curve:
    """The least concave, non-decreasing curve on or above all points, by its vertices."""
    order = np.lexsort((-quality, cost))
    hull: list[tuple[float, float]] = []
    for x, y in zip(cost[order].tolist(), quality[order].tolist(), strict=True):
        if hull and y <= hull[-1][1]:
            continue
        while len(hull) >= 2 and _below(hull[-2], hull[-1], (x, y)):
            hull.pop()
        if hull and x == hull[-1][0]:
            hull.pop()
        hull.append((x, y))
    points = np.array(hull, dtype=np.float64).reshape(-1, 2)
    return Curve(points[:, 0], points[:, 1])


def _below(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    """Whether b lies on or below the line from a to c."""
    return (b[1] - a[1]) * (c[0] - a[0]) <= (c[1] - a[1]) * (b[0] - a[0])


def tradeoff_curve(expected: Floats, price: Floats, quality: Floats, cost: Floats) -> Curve:
    """Every point of the rule "argmax of l * expected - price", for l from 0 to infinity.

    All ``[prompts, models]``: the rule sees expected scores and prices, the curve has the mean of
    the true ``cost`` and ``quality`` of what it chose. Exact: as l grows, each prompt climbs the
    upper hull of its own models, so the curve is the climbs of all prompts sorted by slope. With
    equal prices per model and two models it is the ranking by P(strong) - P(weak).
    """
    rows = np.arange(len(expected))
    # The cheapest model, the better one at a tie.
    best_at_tie = np.where(price == price.min(axis=1, keepdims=True), expected, -np.inf)
    now = best_at_tie.argmax(axis=1)
    start = realised(now, quality, cost)
    slopes, d_cost, d_quality = [], [], []
    while True:
        rise = expected - expected[rows, now][:, None]
        run = price - price[rows, now][:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = np.where((rise > 0) & (run > 0), rise / run, -np.inf)
        # Of equal slopes the farthest: those between lie on the same edge.
        top = slope.max(axis=1)
        step = np.where(slope == top[:, None], run, -np.inf).argmax(axis=1)
        moving = np.flatnonzero(top > -np.inf)
        if not moving.size:
            break
        new = step[moving]
        slopes.append(top[moving])
        d_cost.append(cost[moving, new] - cost[moving, now[moving]])
        d_quality.append(quality[moving, new] - quality[moving, now[moving]])
        now[moving] = new
    return _path(start, slopes, d_cost, d_quality, len(expected))


def _path(
    start: tuple[float, float],
    slopes: list[Floats],
    d_cost: list[Floats],
    d_quality: list[Floats],
    count: int,
) -> Curve:
    """The running sums of all climbs by falling slope; equal slopes move together."""
    if not slopes:
        return Curve(np.array([start[0]]), np.array([start[1]]))
    slope = np.concatenate(slopes)
    order = np.argsort(-slope, kind="stable")
    ranked = slope[order]
    last = np.concatenate([ranked[1:] != ranked[:-1], [True]])
    cost = start[0] + np.cumsum(np.concatenate(d_cost)[order])[last] / count
    quality = start[1] + np.cumsum(np.concatenate(d_quality)[order])[last] / count
    return Curve(np.concatenate([[start[0]], cost]), np.concatenate([[start[1]], quality]))


def zero_router(quality: Floats, cost: Floats) -> Curve:
    """The hull of the single models, each at its mean cost and score: routing that sees nothing."""
    return upper_hull(cost.mean(axis=0), quality.mean(axis=0))


def best_single(quality: Floats, cost: Floats) -> int:
    """The model of the highest mean score, the cheaper one at a tie."""
    return int(np.lexsort((cost.mean(axis=0), -quality.mean(axis=0)))[0])


def cost_at_quality(curve: Curve, quality: Floats, cost: Floats, share: float) -> float:
    """Cost@share: the hull's cost at ``share`` of the best single's score, over that single's cost.

    ``quality`` and ``cost`` are the pool's ``[prompts, models]``; inf where never reached.
    """
    best = best_single(quality, cost)
    hull = upper_hull(curve.cost, curve.quality)
    needed = share * float(quality[:, best].mean())
    return cost_to_reach(hull, needed) / float(cost[:, best].mean())


def aiq(curve: Curve, low: float, high: float) -> float:
    """AIQ: the mean of the upper hull, forced non-decreasing, over the costs from low to high.

    Hu et al., RouterBench (arXiv 2403.12031), section 3, with a range common to all routers
    compared (`cost_range`); below its first point a router scores 0 (`Curve.at`).
    """
    hull = upper_hull(curve.cost, curve.quality)
    inside = hull.cost[(hull.cost > low) & (hull.cost < high)]
    first = hull.cost[0]
    # The jump at the first point must not be smeared over the segment before it.
    knots = np.concatenate([[max(low, first)], inside[inside > first], [max(high, first)]])
    return _trapezes(hull.at(knots), knots) / (high - low)


def cost_range(quality: Floats, cost: Floats) -> tuple[float, float]:
    """From the mean cost of the cheapest single model to that of the best, ``[prompts, models]``.

    Where the best is the cheapest, up to the dearest.
    """
    means = cost.mean(axis=0)
    low, high = float(means.min()), float(means[best_single(quality, cost)])
    return low, high if high > low else float(means.max())


def oracle(quality: Floats, cost: Floats) -> tuple[float, float]:
    """Mean cost and score of the cheapest model of the highest score, prompt by prompt.

    With one sample per model it also picks lucky answers, so its lead is an upper bound.
    """
    top = quality == quality.max(axis=1, keepdims=True)
    # A prompt that none can answer goes to the cheapest: all are tied at 0.
    return realised(np.where(top, cost, np.inf).argmin(axis=1), quality, cost)


def oracle_share(curve: Curve, quality: Floats, cost: Floats) -> float:
    """The way from the zero router to the oracle that a router goes, by AIQ: 0 none, 1 all of it.

    The oracle here is the best curve there is for the pool: it knows every score.
    """
    low, high = cost_range(quality, cost)
    zero = aiq(zero_router(quality, cost), low, high)
    perfect = aiq(tradeoff_curve(quality, cost, quality, cost), low, high)
    return (aiq(curve, low, high) - zero) / (perfect - zero)
