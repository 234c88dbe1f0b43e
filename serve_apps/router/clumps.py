"""How many prompts come while an answer is written, beyond what a steady stream would bring.

Requests that come in clumps meet more of each other than their rate tells: an idle engine that
gets one will get the others before its answer is done, and each of their prompts stalls it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

MEMORY_S = 20.0
"""Arrivals fade at this time constant: long beside a clump, short beside a rise in load."""
BEYOND_CHANCE = 3.0
"""So many standard deviations of the number of meetings count as chance."""


class Clumps:
    """Prompt tokens that an answer meets too many, by group, from the arrivals seen of late.

    An answer of a group takes ``answer_s`` in the mean, its length spread exponentially; so at a
    prompt's arrival the sum of exp(-age / answer_s) over those before it are still being written,
    were all of them the group's. The mean of prompt tokens met per answer is what an arrival has to
    expect (of the stationary process it is the same for what came before it and what comes
    after), where a Poisson stream of that rate brings rate x answer_s. Of the difference a group
    gets its part of all prompts of late.
    """

    def __init__(self, answer_s: Mapping[str, float]) -> None:
        self._answer_s = dict(answer_s)
        self._being_written = dict.fromkeys(self._answer_s, 0.0)
        self._meetings = dict.fromkeys(self._answer_s, 0.0)
        self._met_tokens = dict.fromkeys(self._answer_s, 0.0)
        self._taken_tokens = dict.fromkeys(self._answer_s, 0.0)
        self._arrivals = self._tokens = self._watched_s = 0.0
        self._seen_s: float | None = None

    def came(self, now_s: float, tokens: float, group: str) -> None:
        """A prompt of so many tokens came and goes to the group."""
        gone_s = max(now_s - self._seen_s, 0.0) if self._seen_s is not None else 0.0
        left = math.exp(-gone_s / MEMORY_S)
        self._seen_s = now_s
        self._watched_s = self._watched_s * left + MEMORY_S * (1.0 - left)
        self._arrivals = self._arrivals * left + 1.0
        self._tokens = self._tokens * left + tokens
        for name, answer_s in self._answer_s.items():
            written = self._being_written[name] * math.exp(-gone_s / answer_s)
            self._meetings[name] = self._meetings[name] * left + written
            self._met_tokens[name] = self._met_tokens[name] * left + tokens * written
            self._taken_tokens[name] *= left
            self._being_written[name] = written + 1.0
        self._taken_tokens[group] += tokens

    def excess_tokens(self, group: str) -> float:
        """Prompt tokens that an answer of the group meets beyond a steady stream's; 0 where
        chance explains them.
        """
        meetings = self._meetings[group]
        if not meetings:
            return 0.0
        answer_s = self._answer_s[group]
        watched_s = self._watched_s if self._watched_s > answer_s else answer_s
        steady = self._tokens * answer_s / watched_s
        met = self._met_tokens[group] / self._arrivals
        excess = met - steady * (1.0 + BEYOND_CHANCE / math.sqrt(meetings))
        return excess * self._taken_tokens[group] / self._tokens if excess > 0.0 else 0.0
