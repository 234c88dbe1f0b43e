"""Which model, how many samples of it, and with which prompt: one choice among all of these."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from serve_apps.router.policies.agreement import vote
from serve_apps.router.policies.base import Answer, Ask, Choice, NoFeasibleModelError


@dataclass(frozen=True, slots=True)
class Arm:
    """``samples`` answers of ``model`` under a prompt ``strategy``, of which the plurality stands.

    ``estimate`` is the name under which the estimator knows this model with this prompt, by
    default the model itself.
    """

    model: str
    samples: int = 1
    strategy: str = ""
    estimate: str = ""

    @property
    def column(self) -> str:
        """Name of the column of estimates."""
        return self.estimate or self.model


@lru_cache(maxsize=65536)
def majority_accuracy(permille: int, samples: int, concentration: float) -> float:
    """P(most samples are right), a tie counting half, of a model right ``permille``/1000 of times.

    A prompt's own chance is Beta-distributed around that with this ``concentration``: near 0,
    samples of one prompt are all right or all wrong, and a vote brings nothing; large, they are
    independent.
    """
    q = min(max(permille / 1000, 0.001), 0.999)
    a, b = q * concentration, (1 - q) * concentration
    total = 0.0
    for right in range((samples + 1) // 2, samples + 1):
        log_ways = math.lgamma(samples + 1) - math.lgamma(right + 1)
        log_ways -= math.lgamma(samples - right + 1)
        mass = math.exp(log_ways + _log_beta(a + right, b + samples - right) - _log_beta(a, b))
        total += mass / 2 if 2 * right == samples else mass
    return total


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


@dataclass(frozen=True)
class AdaptiveSolver:
    """The arm of the highest worth * P(its plurality is right) - samples * price.

    ``concentration`` says how independent samples of one prompt are (`majority_accuracy`); fit it
    on repeated samples with `fit_concentration`.
    """

    arms: tuple[Arm, ...]
    worth: float
    concentration: float = 2.0
    name: str = "adaptive_solver"

    def choose(self, ask: Ask, seen: Sequence[Answer] = ()) -> Choice:
        """An arm; then the sample that won the vote."""
        if seen:
            won = vote([a.text for a in seen], [1.0] * len(seen))
            return Choice(seen[won].model, f"most of {len(seen)} samples", stands=won)
        worth = self.worth if ask.worth is None else ask.worth
        possible = [arm for arm in self.arms if ask.can(arm.column)]
        if not possible:
            raise NoFeasibleModelError
        best = max(possible, key=lambda arm: self._value(arm, ask, worth))
        accuracy = self._accuracy(best, ask)
        reason = f"{best.samples} x {best.column}: quality {accuracy:.2f}"
        many = best.samples > 1
        return Choice(best.model, reason, not many, samples=best.samples, strategy=best.strategy)

    def _accuracy(self, arm: Arm, ask: Ask) -> float:
        quality = ask.quality[ask.models.index(arm.column)]
        return majority_accuracy(round(quality * 1000), arm.samples, self.concentration)

    def _value(self, arm: Arm, ask: Ask, worth: float) -> tuple[float, float]:
        price = arm.samples * ask.price[ask.models.index(arm.column)]
        accuracy = self._accuracy(arm, ask)
        return (accuracy, -price) if math.isinf(worth) else (worth * accuracy - price, -price)


def fit_concentration(right: Sequence[int], samples: int) -> float:
    """The concentration by moments, from how many of ``samples`` were right for each prompt.

    Var(right / samples) = q(1-q) / samples * (1 + (samples - 1) / (concentration + 1)).
    """
    share = [r / samples for r in right]
    q = sum(share) / len(share)
    variance = sum((s - q) ** 2 for s in share) / len(share)
    alone = q * (1 - q) / samples
    if alone <= 0 or variance <= alone:
        return 1e3
    excess = (variance / alone - 1) / (samples - 1)
    return min(max(1 / excess - 1, 1e-2), 1e3) if excess < 1 else 1e-2
