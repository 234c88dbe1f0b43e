"""Ask small models first, look at their answers, and escalate where that is worth its price.

At each point the cascade compares: take the best answer seen; ask the strong model; or let the
next models of its order answer and decide then. The last is worth what is expected of the best
answer then, plus E[max(0, gain of escalating then)], less the price of those answers: the value
of information. So it is decided per request whether to probe at all, and by whom. Every answer
asked for is paid for, used or not.

With one small model it escalates on P(IK) and P(True); with two or more also on agreement.
The plan for further answers is made as if they were all read before deciding, and is made anew
after each: this bounds the value of looking from below.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from serve_apps.router.policies.base import Answer, Ask, Choice, NoFeasibleModelError
from serve_apps.router.policies.beliefs import Beliefs, evidence
from serve_apps.router.policies.logistic import Floats


@dataclass(frozen=True)
class Cascade:
    """Escalate where worth * P(strong is right, and the best seen is not) exceeds its price.

    ``worth``: of one unit of quality, in the unit of price.
    """

    beliefs: Beliefs
    worth: float
    name: str = "cascade"

    def choose(self, ask: Ask, seen: Sequence[Answer] = ()) -> Choice:
        """Who is asked next, or whose answer stands."""
        order, strong = self.beliefs.order, self.beliefs.strong
        if not ask.can(strong) or not all(ask.can(m) for m in order[len(seen) :]):
            return self._cut_short(ask, seen)
        at = [ask.models.index(m) for m in (*order, strong)]
        prior = np.array([ask.quality[at[0]], ask.quality[at[-1]]])
        price = np.array([ask.price[i] for i in at])
        worth = self.worth if ask.worth is None else ask.worth
        x = evidence(prior, seen)[None]
        right, values = values_of(self.beliefs, len(seen), x, price[None], worth)
        best = int(values[0].argmax())
        p = right[0]
        if best == 0:
            stands = int(self.beliefs.best_seen(right)[0])
            reason = f"P(right) {p[stands]:.2f}, {strong} {p[-1]:.2f}"
            return Choice(order[stands], reason, stands=stands)
        if best == 1:
            return Choice(strong, f"P(right) {p[-1]:.2f}, best seen {_best(p):.2f}")
        probe = order[len(seen)]
        return Choice(probe, f"its answer is worth more than its price{_of(seen)}", final=False)

    def _cut_short(self, ask: Ask, seen: Sequence[Answer]) -> Choice:
        """Some model of the cascade would be late: the best seen, else the best that is in time."""
        if seen:
            likely = dict(zip(ask.models, ask.quality, strict=True))
            stands = max(range(len(seen)), key=lambda i: likely[seen[i].model])
            return Choice(seen[stands].model, "no time for further answers", stands=stands)
        models = (*self.beliefs.order, self.beliefs.strong)
        in_time = [i for i in ask.candidates() if ask.models[i] in models]
        if not in_time:
            raise NoFeasibleModelError
        worth = self.worth if ask.worth is None else ask.worth
        best = max(in_time, key=lambda i: worth * ask.quality[i] - ask.price[i])
        return Choice(ask.models[best], "no time for a cascade")


def values_of(
    beliefs: Beliefs, seen: int, x: Floats, price: Floats, worth: float
) -> tuple[Floats, Floats]:
    """P(right) ``[n, seen + 1]`` and the value of each way on, in units of price.

    ``x``: evidence ``[n, d]``; ``price``: ``[n, K + 1]``, the strong model last. Columns of the
    values: take the best seen (-inf with none), ask the strong model, read one more answer, two
    more, ... and then decide.
    """
    stage = beliefs.stages[seen]
    right = stage.right(x)
    rows = np.arange(len(x))
    worth = min(worth, 1e12)
    take = np.full(len(x), -math.inf)
    if seen:
        take = worth * right[rows, beliefs.best_seen(right)]
    columns = [take, worth * right[:, -1] - price[:, -1]]
    for until, outlook in stage.outlook.items():
        asked = price[:, seen:until].sum(axis=1)
        small, gain = outlook.gain(x, price[:, -1] / max(worth, 1e-12))
        columns.append(worth * (small + gain) - asked)
    return right, np.stack(columns, axis=1)


def _best(right: Floats) -> float:
    return float(right[:-1].max()) if right.size > 1 else 0.0


def _of(seen: Sequence[Answer]) -> str:
    return f", after {', '.join(a.model for a in seen)}" if seen else ""
