"""Who was refused of late: where nobody may wait there is no queue to be fair in.

Whoever asks as a slot comes free would get it, so slots would go by arrivals. Who is refused
therefore leaves a claim for as long as it was told to stay away, and a moment more. While it has
one, its flow is not idle: it keeps its virtual start, behind others' by so many requests at most;
and one who went before it does not get the slot that would be its turn. Where nobody else asks
there are no claims, and one may have all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

FlowKey = tuple[int, str]
"""Priority and tenant."""
SOONEST_S, LATEST_S, SLACK_S = 1.0, 2.0, 0.25
"""Retry-After is told in whole seconds; whoever heeds it is here a moment later."""
MOST_BEHIND = 8.0
"""Requests that a flow may be owed: it must not have everything for long once it asks for more."""
MOST_CLAIMS = 256
LEVEL = 1e-6


def claim_s(retry_after_s: float) -> float:
    """How long a claim lasts."""
    return min(max(math.ceil(retry_after_s), SOONEST_S), LATEST_S) + SLACK_S


@dataclass(slots=True)
class Claim:
    """One flow's; ``size`` is a request's load over the flow's weight, ``slots`` how many of those
    that were refused since could not even wait.
    """

    size: float
    until_s: float
    slots: int = 0

    def of(self, behind: float) -> int:
        """How many slots, for a flow that is so far behind another."""
        return min(self.slots, math.ceil(behind / self.size - LEVEL)) if behind > 0 else 0


class Claims:
    """The claims on one group, by flow."""

    def __init__(self) -> None:
        self._claims: dict[FlowKey, Claim] = {}

    def __bool__(self) -> bool:
        return bool(self._claims)

    def __contains__(self, key: FlowKey) -> bool:
        return key in self._claims

    def add(self, key: FlowKey, size: float, until_s: float, *, waits: bool) -> bool:
        """A request is refused, others of its flow wait or not; False: there are too many."""
        claim = self._claims.get(key)
        if claim is None:
            if len(self._claims) >= MOST_CLAIMS:
                return False
            claim = self._claims[key] = Claim(size, until_s)
        claim.size, claim.until_s = max(size, 1e-9), until_s
        if not waits:
            claim.slots += 1
        return True

    def used(self, key: FlowKey) -> None:
        """A flow got a slot."""
        claim = self._claims.get(key)
        if claim is not None and claim.slots:
            claim.slots -= 1

    def others(self, key: FlowKey) -> Iterator[tuple[FlowKey, Claim]]:
        """All but one flow's."""
        return ((name, claim) for name, claim in self._claims.items() if name != key)

    def most_behind(self, key: FlowKey) -> float:
        """How far the flow's start may lie behind the virtual time."""
        claim = self._claims.get(key)
        return MOST_BEHIND * claim.size if claim is not None else 0.0

    def expire(self, now: float) -> list[FlowKey]:
        """Forget those that are over; the flows whose they were."""
        over = [key for key, claim in self._claims.items() if claim.until_s <= now]
        for key in over:
            del self._claims[key]
        return over
