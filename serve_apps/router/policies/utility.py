"""Any number of models: the one of the highest worth of quality less price."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isinf

from serve_apps.router.policies.base import Answer, Ask, Choice


@dataclass(frozen=True)
class Utility:
    """argmax over feasible models of ``worth`` * quality - price - ``caution`` * worth * sd.

    With a plan's shadow prices, ``worth`` is lambda_Q and price min over groups r of load * pi_r.
    ``caution`` counts that many standard deviations of the estimate against a model (a lower
    confidence bound). Infinite worth: the best model, the cheaper at a tie.
    """

    worth: float
    caution: float = 0.0
    name: str = "utility"

    def choose(self, ask: Ask, seen: Sequence[Answer] = ()) -> Choice:  # noqa: ARG002
        """The best of the feasible; of equals the cheaper, then the first."""
        worth = self.worth if ask.worth is None else ask.worth
        candidates = ask.candidates()
        quality = ask.quality
        if self.caution and ask.quality_sd:
            quality = [q - self.caution * s for q, s in zip(quality, ask.quality_sd, strict=True)]
        price = ask.price
        if isinf(worth):
            best = max(candidates, key=lambda i: (quality[i], -price[i]))
        else:
            best = max(candidates, key=lambda i: (worth * quality[i] - price[i], -price[i]))
        cheapest = min(candidates, key=price.__getitem__)
        return Choice(ask.models[best], _reason(ask, best, cheapest))


def _reason(ask: Ask, best: int, cheapest: int) -> str:
    if best == cheapest:
        return f"quality {ask.quality[best]:.2f}, the cheapest"
    gain = ask.quality[best] - ask.quality[cheapest]
    price = ask.price[best] - ask.price[cheapest]
    return f"quality {gain:+.2f} for {price:+.3g} over {ask.models[cheapest]}"
