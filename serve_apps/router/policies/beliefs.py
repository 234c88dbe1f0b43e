"""What the answers seen so far say about who is right: the knowledge of a cascade.

After the first k models of a fixed order have answered, k = 0, 1, ..., K, the evidence is: the
estimates made before any answer (P(IK): whether the model knows), what each answer shows of its
own confidence (P(True): token probabilities; its length; whether there is one at all), and which
answers agree. From it, logistic regressions give P(right | evidence) for each model seen and for
the strong one. A second set looks ahead: how likely it is that more answers will change the mind.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve_apps.router.policies.agreement import canonical
from serve_apps.router.policies.base import Answer
from serve_apps.router.policies.logistic import (
    Floats,
    Logistic,
    fit_logistic,
    logit,
    side_by_side,
)

Positions = NDArray[np.int64]
SHOWN = ("p_first", "lp", "margin")
"""Signals of an answer that are used as they are."""
BINS = 8


@dataclass(frozen=True)
class Outlook:
    """From a stage to a later one: what is known then, as seen now.

    Lead is P(strong right) less that of the best answer. The targets of ``told`` are
    E[P(the best answer seen is right)], then P(lead > edge) for each edge between bins of lead;
    ``leads`` holds the mean lead per bin.
    """

    told: Logistic
    leads: Floats

    def gain(self, x: Floats, price: Floats) -> tuple[Floats, Floats]:
        """E[best small] and E[max(0, lead - price)], ``[n]`` each; price in units of quality."""
        told = self.told(x)
        ones, zeros = np.ones((len(x), 1)), np.zeros((len(x), 1))
        tail = np.minimum.accumulate(np.hstack([ones, told[:, 1:], zeros]), axis=1)
        share = tail[:, :-1] - tail[:, 1:]
        return told[:, 0], (share * np.maximum(self.leads - price[:, None], 0.0)).sum(axis=1)


@dataclass(frozen=True)
class Stage:
    """``right``: P(right) of each model seen, then of the strong one; ``outlook``: by stage."""

    right: Logistic
    outlook: dict[int, Outlook]


@dataclass(frozen=True)
class Beliefs:
    """One `Stage` per number of answers seen; ``order`` is who is asked, ``strong`` the last.

    ``accept`` tells per model of the order whether its answer may stand; the first one's may.
    """

    order: tuple[str, ...]
    strong: str
    accept: tuple[bool, ...]
    stages: tuple[Stage, ...]

    def best_seen(self, right: Floats) -> Positions:
        """Of the answers seen that may stand the likeliest right; ``right`` as of a stage."""
        allowed = np.array(self.accept[: right.shape[1] - 1])
        return np.asarray(np.where(allowed, right[:, :-1], -1.0).argmax(axis=1), dtype=np.int64)


def evidence(prior: Floats, answers: Sequence[Answer]) -> Floats:
    """The columns a stage looks at, for one prompt.

    ``prior``: the estimates for the first and for the strong model, ``[2]``. Of the probes only
    their agreement counts: their own estimates and lengths made fitted cascades worse, for they
    are noise to choose by. Unknown signals are NaN, which a `Logistic` reads as "like the mean".
    """
    before = logit(prior)
    keys = [canonical(a.text) for a in answers]
    own: list[float] = []
    if answers:
        signals = answers[0].signals
        length = math.log1p(signals.get("output_tokens", math.nan))
        own = [float(not keys[0]), length, *(signals.get(s, math.nan) for s in SHOWN)]
    agree = [float(a == b != "") for i, a in enumerate(keys) for b in keys[i + 1 :]]
    # Agreement weighs differently on what was thought easy and on what was thought hard.
    crossed = [a * p for a in agree for p in before]
    return np.array([*before, *own, *agree, *crossed])


def fit_beliefs(
    order: Sequence[str],
    strong: str,
    prior: Floats,
    answers: Sequence[Sequence[Answer]],
    score: Floats,
    *,
    accept: Sequence[str] = (),
    ridge: float = 10.0,
) -> Beliefs:
    """Learn from prompts that all models of the cascade have answered.

    ``prior`` is ``[prompts, 2]``, see `evidence`; ``score`` is ``[prompts, K + 1]``, the strong
    model last; ``answers`` has the K answers of each prompt in order. ``prior`` must come from
    estimators that did not see these prompts (cross-fitted), or the cascade trusts them too much.
    ``accept``: whose answers may stand beside the first one's; by default anyone's.
    """
    count = len(order)
    may_stand = np.array([not accept or m in accept or m == order[0] for m in order])
    seen = [
        np.stack([evidence(q, a[:k]) for q, a in zip(prior, answers, strict=True)])
        for k in range(count + 1)
    ]
    right = [
        side_by_side([fit_logistic(seen[k], score[:, j], ridge) for j in (*range(k), count)])
        for k in range(count + 1)
    ]
    known = [right[k](seen[k]) for k in range(count + 1)]
    stages = []
    for k in range(count + 1):
        outlook = {}
        for j in range(k + 1, count + 1):
            small = known[j][:, :-1][:, may_stand[:j]].max(axis=1)
            outlook[j] = _outlook(seen[k], small, known[j][:, -1], ridge)
        stages.append(Stage(right[k], outlook))
    return Beliefs(tuple(order), strong, tuple(may_stand.tolist()), tuple(stages))


def _outlook(x: Floats, small: Floats, strong: Floats, ridge: float) -> Outlook:
    lead = strong - small
    edges = np.unique(np.quantile(lead, np.linspace(0, 1, BINS + 1)[1:-1]))
    bins = np.searchsorted(edges, lead, side="left")
    # An edge that nothing lies above would make an empty bin.
    edges = edges[edges < lead.max()]
    targets = [small, *((lead > edge).astype(np.float64) for edge in edges)]
    told = side_by_side([fit_logistic(x, y, ridge) for y in targets])
    return Outlook(told, np.array([lead[bins == b].mean() for b in range(len(edges) + 1)]))
