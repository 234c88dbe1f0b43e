"""How eager a rule has to be: few runs, the same way for every rule.

A rule's cost and its attainment both rise with its eagerness, nearly. So the least eagerness that
reaches a target is bracketed, starting from a guess, and closed in on by interpolation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.autoscale_run import Fared

CLOSE = 50
"""A bracket is closed when it is this part of the span; a quarter where attainment jumps."""
INNER = 0.2
"""Interpolation stays so far inside a bracket, for attainment may jump."""
NEAR = 0.025
"""Only runs this near to the target are interpolated with; brackets of others are halved."""


@dataclass
class Search:
    """All runs of one search: (eagerness, how it fared); stops at ``slack`` over the target.

    The first step is one of ``steps`` of a rule's span, on the logarithm; each next one is doubled.
    ``ceiling_usd``: it ends where the target was missed at this cost, for it could be reached at
    more only.
    """

    evaluate: Callable[[float], Fared]
    span: tuple[float, float]
    target: float
    slack: float
    most: int = 10
    steps: int = 10
    ceiling_usd: float = math.inf
    tried: list[tuple[float, Fared]] = field(default_factory=list)

    def run(self, guess: float) -> Search:
        """Search from a guess."""
        low, high = (math.log(v) for v in self.span)
        at, step = min(max(math.log(guess), low), high), (high - low) / self.steps
        failed: tuple[float, Fared] | None = None
        passed: tuple[float, Fared] | None = None
        while len(self.tried) < self.most:
            found = self.evaluate(math.exp(at))
            self.tried.append((math.exp(at), found))
            if found.attainment >= self.target:
                passed = (at, found)
                if found.attainment <= self.target + self.slack or at == low:
                    break
            else:
                failed = (at, found)
                if found.usd_per_hour >= self.ceiling_usd or at == high:
                    break
            if passed and failed:
                jumps = passed[1].attainment > self.target + NEAR
                if passed[0] - failed[0] <= (high - low) / (4 * CLOSE if jumps else CLOSE):
                    break
                at = self._between(failed, passed)
            else:
                at = max(low, at - step) if passed else min(high, at + step)
                step *= 2
        return self

    def _between(self, failed: tuple[float, Fared], passed: tuple[float, Fared]) -> float:
        below, above = failed[1].attainment, passed[1].attainment
        part = (self.target + self.slack / 2 - below) / (above - below)
        part = 0.5 if above > self.target + NEAR else min(max(part, INNER), 1 - INNER)
        return failed[0] + part * (passed[0] - failed[0])

    @property
    def best(self) -> tuple[float, Fared] | None:
        """The cheapest run that reached the target."""
        able = [t for t in self.tried if t[1].attainment >= self.target]
        return min(able, key=lambda t: t[1].usd_per_hour) if able else None

    @property
    def nearest(self) -> tuple[float, Fared]:
        """The cheapest that reached the target, else the highest attainment."""
        return self.best or max(self.tried, key=lambda t: t[1].attainment)

    @property
    def usd_at_target(self) -> float | None:
        """Cost of just reaching the target; None where nothing tried did.

        Between the two runs on either side of it, where both are near.
        """
        if self.best is None:
            return None
        above = self.best[1]
        under = [f for _, f in self.tried if self.target - NEAR <= f.attainment < self.target]
        if not under or above.attainment > self.target + NEAR:
            return above.usd_per_hour
        below = max(under, key=lambda f: f.attainment)
        part = (self.target - below.attainment) / (above.attainment - below.attainment)
        usd = below.usd_per_hour + part * (above.usd_per_hour - below.usd_per_hour)
        return min(usd, above.usd_per_hour)
