"""From what a user wants to the policy's exchange rate between quality and money."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve_apps.router.evaluation.metrics import best_single

Floats = NDArray[np.float64]
Choices = NDArray[np.int64]
MOST_RATES = 600
"""Exchange rates tried, evenly by rank among all those at which some prompt changes its model."""


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % percentile interval over resampled prompts."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Outlook:
    """What a setting comes to, prompts resampled with replacement for the intervals.

    ``share``: quality over the best single model's on the same prompts, ``cost_share`` likewise;
    ``mix`` [models] is the share of prompts that each model gets.
    """

    worth: float
    quality: Interval
    share: Interval
    cost: Interval
    cost_share: Interval
    mix: tuple[Interval, ...]


@dataclass(frozen=True)
class Tried:
    """The policy at every exchange rate, rising; ``quality`` and ``cost`` are means over prompts.

    Matrices are ``[prompts, models]``: what the policy sees, and what was true.
    """

    expected: Floats
    price: Floats
    score: Floats
    spent: Floats
    worths: Floats
    quality: Floats
    cost: Floats

    @property
    def best(self) -> int:
        """Position of the best single model."""
        return best_single(self.score, self.spent)

    def cheapest_with(self, share: float) -> float | None:
        """Least worth whose quality is ``share`` of the best single's; None where none has it."""
        needed = share * float(self.score[:, self.best].mean())
        reached = np.flatnonzero(self.quality >= needed - 1e-12)
        if not reached.size:
            return None
        return float(self.worths[reached[self.cost[reached].argmin()]])

    def best_within(self, cost: float) -> float | None:
        """The worth of the highest quality at this mean cost or less; None where all cost more."""
        inside = np.flatnonzero(self.cost <= cost + 1e-15)
        if not inside.size:
            return None
        return float(self.worths[inside[self.quality[inside].argmax()]])

    @property
    def of_highest_quality(self) -> float:
        """The worth whose quality is highest, the cheaper at a tie."""
        top = np.flatnonzero(self.quality >= self.quality.max() - 1e-12)
        return float(self.worths[top[self.cost[top].argmin()]])

    @property
    def of_least_cost(self) -> float:
        """The worth that costs least."""
        return float(self.worths[self.cost.argmin()])

    def ladder(self, steps: int = 64) -> tuple[tuple[float, float, float], ...]:
        """Rising finite worths with (share of the best single's quality, mean cost) at each."""
        finite = np.flatnonzero(np.isfinite(self.worths))
        at = finite[np.unique(np.linspace(0, finite.size - 1, steps).round().astype(int))]
        best = max(float(self.score[:, self.best].mean()), 1e-12)
        rows = np.stack([self.worths[at], self.quality[at] / best, self.cost[at]], axis=1)
        return tuple((float(w), float(s), float(c)) for w, s, c in rows)

    def outlook(self, worth: float, rng: np.random.Generator, draws: int = 1000) -> Outlook:
        """Quality, cost and mix at a worth, with bootstrap intervals."""
        rows = np.arange(len(self.score))
        choice = choices(self.expected, self.price, worth)
        got, paid = self.score[rows, choice], self.spent[rows, choice]
        best_score, best_paid = self.score[:, self.best], self.spent[:, self.best]
        drawn = rng.integers(rows.size, size=(draws, rows.size))

        def mean(values: Floats) -> Interval:
            return _interval(lambda at: values[at].mean(axis=-1), rows, drawn)

        def ratio(a: Floats, b: Floats) -> Interval:
            return _interval(
                lambda at: a[at].mean(axis=-1) / np.maximum(b[at].mean(axis=-1), 1e-12), rows, drawn
            )

        return Outlook(
            worth=worth,
            quality=mean(got),
            share=ratio(got, best_score),
            cost=mean(paid),
            cost_share=ratio(paid, best_paid),
            mix=tuple(mean((choice == m) * 1.0) for m in range(self.score.shape[1])),
        )


def choices(expected: Floats, price: Floats, worth: float) -> Choices:
    """What `policies.utility.Utility` chooses at this worth, for all prompts; see there."""
    if np.isinf(worth):
        top = expected == expected.max(axis=1, keepdims=True)
    else:
        value = worth * expected - price
        top = value == value.max(axis=1, keepdims=True)
    return np.asarray(np.where(top, price, np.inf).argmin(axis=1))


def try_all(expected: Floats, price: Floats, score: Floats, spent: Floats) -> Tried:
    """The policy at every exchange rate worth trying, 0 and infinity among them."""
    worths = _worths(expected, price)
    rows = np.arange(len(expected))
    found = [choices(expected, price, float(worth)) for worth in worths]
    quality = np.array([score[rows, choice].mean() for choice in found])
    cost = np.array([spent[rows, choice].mean() for choice in found])
    return Tried(expected, price, score, spent, worths, quality, cost)


def _worths(expected: Floats, price: Floats) -> Floats:
    """Between the rates at which a prompt is indifferent between two models."""
    parts = []
    for a in range(expected.shape[1]):
        rise = expected - expected[:, [a]]
        run = price - price[:, [a]]
        changes = (rise > 0) & (run > 0)
        parts.append(run[changes] / rise[changes])
    rates = np.unique(np.concatenate(parts))
    if rates.size > MOST_RATES:
        rates = np.unique(np.quantile(rates, np.linspace(0, 1, MOST_RATES)))
    between = np.sqrt(rates[1:] * rates[:-1])
    return np.concatenate([[0.0], between, rates[-1:] * (1 + 1e-9), [np.inf]])


def _interval(figure: Callable[[Choices], Floats], rows: Choices, drawn: Choices) -> Interval:
    low, high = np.quantile(figure(drawn), [0.025, 0.975])
    return Interval(float(figure(rows)), float(low), float(high))
