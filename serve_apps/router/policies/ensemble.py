"""Ask several models at once, as many as a budget allows, and take their weighted vote."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from serve_apps.router.policies.agreement import vote
from serve_apps.router.policies.base import Answer, Ask, Choice
from serve_apps.router.policies.knapsack import best_subset

MOST = 7
"""Beyond so many voters the gain is small and the count of outcomes large."""


def log_odds(p: float) -> float:
    """The weight of a voter that is right with probability p."""
    kept = min(max(p, 0.01), 0.99)
    return math.log(kept / (1 - kept))


def vote_accuracy(quality: Sequence[float]) -> float:
    """P(the weighted vote is right) of independent voters, all wrong ones saying the same.

    Weights are log-odds, so this is the best any vote can do (Nitzan and Paroush, 1982). Wrong
    voters that differ are easier to outvote; voters wrong together are not: both are left out.
    """
    share = {0.0: 1.0}
    for p in quality:
        weight = round(log_odds(p), 9)
        told: dict[float, float] = {}
        for lead, mass in share.items():
            for moved, chance in ((lead + weight, p), (lead - weight, 1 - p)):
                told[moved] = told.get(moved, 0.0) + mass * chance
        share = told
    return sum(m if lead > 1e-6 else m / 2 if lead > -1e-6 else 0.0 for lead, m in share.items())


@dataclass(frozen=True)
class Ensemble:
    """The subset of the largest total log-odds within ``budget`` (of price, per request).

    A single model answers alone where the vote is not expected to beat it by ``least_gain``.
    """

    budget: float
    least_gain: float = 0.01
    name: str = "ensemble"

    def choose(self, ask: Ask, seen: Sequence[Answer] = ()) -> Choice:
        """Whom to ask; then whose answer won the vote."""
        if seen:
            return self._count(ask, seen)
        candidates = ask.candidates()
        cheapest = min(candidates, key=lambda i: ask.price[i])
        within = [i for i in candidates if ask.price[i] <= self.budget] or [cheapest]
        single = max(within, key=lambda i: (ask.quality[i], -ask.price[i]))
        voters = self._voters(ask, within)
        gain = vote_accuracy([ask.quality[i] for i in voters]) - ask.quality[single]
        if len(voters) < 3 or gain < self.least_gain:
            return Choice(
                ask.models[single], f"quality {ask.quality[single]:.2f}, no vote beats it"
            )
        first, *others = sorted(voters, key=lambda i: -ask.quality[i])
        return Choice(
            ask.models[first],
            f"a vote of {len(voters)}, {gain:+.2f} over {ask.models[single]}",
            final=False,
            also=tuple(ask.models[i] for i in others),
        )

    def _voters(self, ask: Ask, within: Sequence[int]) -> list[int]:
        top = sorted(within, key=lambda i: -ask.quality[i])[:MOST]
        value = [log_odds(ask.quality[i]) for i in top]
        return [top[i] for i in best_subset(value, [ask.price[i] for i in top], self.budget)]

    def _count(self, ask: Ask, seen: Sequence[Answer]) -> Choice:
        quality = dict(zip(ask.models, ask.quality, strict=True))
        # A voter weighs what was expected of it, moved by how sure it was, where it says so.
        weights = [log_odds(_told(quality[a.model], a.signals.get("p_first"))) for a in seen]
        won = vote([a.text for a in seen], weights)
        return Choice(seen[won].model, f"won a vote of {len(seen)}", stands=won)


def _told(expected: float, confidence: float | None) -> float:
    if confidence is None or math.isnan(confidence):
        return expected
    return (expected + confidence) / 2
