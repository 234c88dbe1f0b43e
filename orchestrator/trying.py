"""One plan tried against several drawings of its traffic: which streams and groups fall short."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from orchestrator.judging import Kept, judge
from orchestrator.simulation.run import Conditions, simulate
from placement.plan import Plan
from profiler.core import Slo
from profiler.traces import Trace

CONFIDENCE = 0.975
USUAL = Conditions()

Scenario = Mapping[str, Trace]
Key = tuple[str, Slo]


@dataclass(frozen=True)
class Fared:
    """One stream under one SLO over all scenarios: the first is the trace, the rest are seeds."""

    stream: str
    slo: Slo
    shares: tuple[float, ...]
    by_group: Mapping[str, float]

    @property
    def trace(self) -> float:
        """The share that met the SLO on the trace itself."""
        return self.shares[0]

    @property
    def mean(self) -> float:
        """Over the seeds, or of the trace where none was tried."""
        return float(np.mean(self.shares[1:] or self.shares))

    @property
    def worst(self) -> float:
        """The least of all."""
        return min(self.shares)

    @property
    def expected_worst(self) -> float:
        """What a seed not tried stays above, with 97.5 % confidence.

        The prediction interval of one more draw from a normal distribution, by Student's t; the
        worst where too few seeds were tried to say.
        """
        seeds = self.shares[1:]
        if len(seeds) < 2:
            return self.worst
        spread = float(np.std(seeds, ddof=1)) * math.sqrt(1 + 1 / len(seeds))
        return max(0.0, self.mean - float(stdtrit(len(seeds) - 1, CONFIDENCE)) * spread)

    @property
    def lacks(self) -> float:
        """How much is missing to the SLO's share; 0 or less: the promise holds."""
        return self.slo.attainment - min(self.worst, self.expected_worst)


@dataclass(frozen=True)
class Trial:
    """How a plan fared; ``complete`` unless it fell short before all scenarios were tried."""

    plan: Plan
    fared: tuple[Fared, ...]
    complete: bool

    @property
    def lacks(self) -> float:
        """Of the stream that lacks most."""
        return max((f.lacks for f in self.fared), default=0.0)

    @property
    def holds(self) -> bool:
        """Whether every stream keeps its promise in every scenario, and in one not tried."""
        return self.complete and self.lacks <= 0

    def short_groups(self) -> dict[str, float]:
        """Groups whose requests miss too often, and by which factor (above 1).

        A stream that lacks has at least one group below the share it needs to have on average.
        """
        worst: dict[str, float] = {}
        for f in self.fared:
            if f.lacks <= 0:
                continue
            forgiven = 1 - f.slo.attainment
            # what the stream needs on average, so that its worst case still holds
            allowed = max(forgiven - (f.mean - min(f.worst, f.expected_worst)), forgiven / 4)
            for name, share in f.by_group.items():
                if 1 - share > allowed:
                    worst[name] = max(worst.get(name, 0.0), (1 - share) / allowed)
        return worst


def try_plan(
    plan: Plan,
    scenarios: Sequence[Scenario],
    *,
    conditions: Conditions = USUAL,
    to_the_end: bool = True,
) -> Trial:
    """Simulate a plan in each scenario; without ``to_the_end``, until one falls short."""
    shares: dict[Key, list[float]] = defaultdict(list)
    counts: dict[Key, dict[str, tuple[int, int]]] = defaultdict(dict)
    tried = 0
    for kept in _runs(plan, scenarios, conditions):
        tried += 1
        for k in kept:
            key = k.stream, k.slo
            shares[key].append(k.both)
            for name, (sent, good) in k.by_group.items():
                before = counts[key].get(name, (0, 0))
                counts[key][name] = before[0] + sent, before[1] + good
        if not to_the_end and any(k.both < k.slo.attainment for k in kept):
            break
    fared = tuple(
        Fared(*key, tuple(found), {n: good / sent for n, (sent, good) in counts[key].items()})
        for key, found in shares.items()
    )
    return Trial(plan, fared, tried == len(scenarios))


def _runs(
    plan: Plan, scenarios: Sequence[Scenario], conditions: Conditions
) -> Iterator[tuple[Kept, ...]]:
    for scenario in scenarios:
        yield judge(plan, simulate(plan, scenario, conditions=conditions))
