"""Any policy tried on outcomes: asked until an answer stands, every call paid for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve_apps.router.estimates import Estimates
from serve_apps.router.evaluation.cascades import answers_of
from serve_apps.router.evaluation.metrics import Curve, Floats
from serve_apps.router.outcomes import Outcomes
from serve_apps.router.policies.base import Answer, Ask, LearningPolicy, Policy

MOST_ROUNDS = 16
"""A policy that asks on beyond this has no end."""


@dataclass(frozen=True)
class Replay:
    """What became of each prompt, ``[prompts]``: score, cost of all calls, how many there were.

    ``model`` is the position of the model whose answer stood.
    """

    quality: Floats
    cost: Floats
    calls: NDArray[np.int64]
    model: NDArray[np.int64]


def replay(
    policy: Policy,
    outcomes: Outcomes,
    told: Estimates,
    price: Floats,
    cost: Floats,
    *,
    worth: Sequence[float] | None = None,
    features: Floats | None = None,
) -> Replay:
    """Every prompt in order; a policy that learns is told of each answer that stood.

    ``price`` is what the policy sees and ``cost`` what is paid, ``[prompts, models]``; ``worth``
    is each prompt's own preference. Outcomes hold one answer per model: a second sample of a
    model, or a step of one, cannot be replayed.

    Raises:
        ValueError: the policy asks for what the outcomes do not hold.
    """
    count = len(outcomes.prompts)
    answers = answers_of(outcomes, outcomes.models)
    at = [told.models.index(m) for m in outcomes.models]
    quality, sd = told.quality[:, at].tolist(), told.quality_sd[:, at].tolist()
    prices = price.tolist()
    found = Replay(
        np.empty(count), np.empty(count), np.empty(count, np.int64), np.empty(count, np.int64)
    )
    learns = policy if isinstance(policy, LearningPolicy) else None
    for row in range(count):
        ask = Ask(
            models=outcomes.models,
            quality=quality[row],
            price=prices[row],
            quality_sd=sd[row],
            worth=None if worth is None else worth[row],
            features=None if features is None else features[row],
        )
        stood, called = _one(policy, ask, answers[row])
        paid = float(sum(cost[row, i] for i in called))
        found.quality[row], found.cost[row] = outcomes.score[row, stood], paid
        found.calls[row], found.model[row] = len(called), stood
        if learns is not None:
            learns.learn(ask, ask.models[stood], float(outcomes.score[row, stood]), paid)
    return found


def _one(policy: Policy, ask: Ask, answers: Sequence[Answer]) -> tuple[int, list[int]]:
    """Position of the model whose answer stood, and of all that were called."""
    seen: list[Answer] = []
    called: list[int] = []
    for _ in range(MOST_ROUNDS):
        choice = policy.choose(ask, seen)
        if choice.stands is not None:
            return ask.models.index(seen[choice.stands].model), called
        if choice.samples > 1 or choice.strategy:
            raise ValueError(f"{policy.name}: outcomes hold one answer per model and prompt")
        calls = [ask.models.index(m) for m in choice.calls]
        called += calls
        if choice.final:
            return calls[0], called
        seen += [answers[i] for i in calls]
    raise ValueError(f"{policy.name}: asked {MOST_ROUNDS} times and no answer stood")


def curve_of(runs: Sequence[Replay]) -> Curve:
    """Mean cost and score of each run, by rising cost."""
    points = sorted((float(r.cost.mean()), float(r.quality.mean())) for r in runs)
    cost, quality = np.array(points).T
    return Curve(cost, quality)
