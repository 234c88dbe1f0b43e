"""Which replica of a group takes a request: the one that would be done with it first.

Time to first token and per token are predicted for each, from what is in flight there, the
tokens of the prompt that it holds already, and its pace of late. Small groups are searched
through. In large ones two replicas drawn at random are compared, beside the one that holds the
prompt's beginning: the better of two is nearly as good as the best (Mitzenmacher 2001), and
several gateways that decide at once do not all pick the same one.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from serve_apps.flow.affinity import Cached
from serve_apps.flow.engine import Engine
from serve_apps.flow.nouns import Task

LATER_STILL = 4.0
"""A replica late by so much is reckoned to take so many times that much longer."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a replica is not to be taken beyond, in seconds; see `Engine.cost_s`.

    ``failure_s`` is what each recent failure of a replica counts for: one that fails fast has
    little in flight, and must not look the better for it.
    """

    tpot_s: float
    backlog_s: float
    failure_s: float


class Placement:
    """Picks among the engines of one group."""

    def __init__(self, rng: random.Random, exact_below: int) -> None:
        self._rng = rng
        self._exact_below = exact_below

    def pick(
        self,
        engines: Sequence[Engine],
        task: Task,
        now: float,
        limits: Limits,
        cached: Cached | None = None,
    ) -> Engine | None:
        """The best of the engines, all of which are in use; None when none has room.

        Replicas that hang get nothing while there is any that does not, be it full.
        """
        if len(engines) >= self._exact_below:
            best = _best(self._draw(engines, cached), task, now, limits, cached)
            if best is not None and not best.hangs(now):
                return best
        return _best(engines, task, now, limits, cached)

    def _draw(self, engines: Sequence[Engine], cached: Cached | None) -> list[Engine]:
        rng, count = self._rng.random, len(engines)
        drawn = [engines[int(rng() * count)], engines[int(rng() * count)]]
        if cached is not None:
            drawn += [e for e in engines if e.replica.id == cached.replica]
        return drawn


def _best(
    engines: Sequence[Engine], task: Task, now: float, limits: Limits, cached: Cached | None
) -> Engine | None:
    alive = [e for e in engines if not e.pending or not e.hangs(now)] or engines
    prompt, output = float(task.asked.input_tokens), task.output_tokens
    holder = cached.replica if cached is not None else ""
    tpot_s, backlog_s, failure_s = limits.tpot_s, limits.backlog_s, limits.failure_s
    best, least_s = None, math.inf
    for engine in alive:
        engine.catch_up(now)
        prefill = prompt
        if cached is not None and engine.replica.id == holder:
            prefill = max(prompt - cached.tokens, 1.0)
        took_s = engine.cost_s(prefill, output, tpot_s, backlog_s, now)
        if engine.failures:
            took_s += engine.failures * failure_s
        if engine.pending:
            took_s += LATER_STILL * engine.overdue_s(now)
        if took_s < least_s:
            best, least_s = engine, took_s
    return best
