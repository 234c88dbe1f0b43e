"""Two models: the strong one where it is expected to be so much better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from serve_apps.router.policies.base import Answer, Ask, Choice, Floats, NoFeasibleModelError


@dataclass(frozen=True)
class Threshold:
    """The strong model where P(strong) - P(weak) is at least ``threshold``.

    The gap ranks prompts better than 1 - P(weak): what neither model can do stays with the weak.
    """

    weak: str
    strong: str
    threshold: float
    name: str = "threshold"

    def choose(self, ask: Ask, seen: Sequence[Answer] = ()) -> Choice:  # noqa: ARG002
        """One of the two; the other where only that one is feasible."""
        weak, strong = ask.models.index(self.weak), ask.models.index(self.strong)
        gap = ask.quality[strong] - ask.quality[weak]
        wanted, other = (
            (self.strong, self.weak) if gap >= self.threshold else (self.weak, self.strong)
        )
        reason = f"gap {gap:+.3f}, threshold {self.threshold:+.3f}"
        if ask.can(wanted):
            return Choice(wanted, reason)
        if ask.can(other):
            return Choice(other, f"{wanted} would miss its latency target")
        raise NoFeasibleModelError


def threshold_for_share(gap: Floats, share: float) -> float:
    """The threshold that sends this share of prompts like these to the strong model.

    ``gap``: P(strong) - P(weak) per prompt. Where gaps tie, no more than the share.
    """
    count = int(np.floor(share * gap.size + 1e-9))
    ranked = np.sort(gap)[::-1]
    if count == 0:
        return float(np.nextafter(ranked[0], np.inf))
    lowest = ranked[count - 1]
    tied_beyond = count < gap.size and ranked[count] == lowest
    return float(np.nextafter(lowest, np.inf)) if tied_beyond else float(lowest)
