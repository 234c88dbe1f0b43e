"""A cascade tried on outcomes: what it reaches, and what it pays, probes included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve_apps.router.evaluation.metrics import Curve, Floats, apgr, area
from serve_apps.router.outcomes import Outcomes
from serve_apps.router.policies.base import Answer
from serve_apps.router.policies.beliefs import Beliefs, evidence
from serve_apps.router.policies.cascade import values_of

Pair = tuple[float, float]


@dataclass(frozen=True)
class CascadeRun:
    """One cascade at one worth on many prompts, ``[prompts]`` each.

    ``quality``: score of the answer that stood; ``cost``: of all answers asked for; ``strong``:
    whether the strong model was asked; ``calls``: how many models were.
    """

    quality: Floats
    cost: Floats
    strong: NDArray[np.bool_]
    calls: NDArray[np.int64]


def answers_of(outcomes: Outcomes, models: Sequence[str]) -> list[list[Answer]]:
    """Per prompt what these models answered, with their signals and lengths."""
    at = [outcomes.models.index(m) for m in models]
    return [[_answer(outcomes, row, i) for i in at] for row in range(len(outcomes.prompts))]


def _answer(outcomes: Outcomes, row: int, model: int) -> Answer:
    signals = {name: float(values[row, model]) for name, values in outcomes.signals.items()}
    signals["output_tokens"] = float(outcomes.output_tokens[row, model])
    text = "" if outcomes.answer is None else str(outcomes.answer[row, model])
    return Answer(outcomes.models[model], text, signals)


class CascadeTrial:
    """A fitted cascade on prompts kept for the trial; call it with a worth."""

    def __init__(
        self,
        beliefs: Beliefs,
        prior: Floats,
        price: Floats,
        outcomes: Outcomes,
        cost: Floats,
    ) -> None:
        """``price`` (expected) and ``cost`` (true): [prompts, K + 1], the order of ``beliefs``,
        then its strong model; ``prior``: [prompts, 2], estimates of the first and of the strong.
        """
        models = (*beliefs.order, beliefs.strong)
        answers = answers_of(outcomes, beliefs.order)
        self._beliefs = beliefs
        self._price, self._cost = price, cost
        self._score = outcomes.only(models).score
        self._x = [
            np.stack([evidence(q, a[:k]) for q, a in zip(prior, answers, strict=True)])
            for k in range(len(models))
        ]

    def __call__(self, worth: float) -> CascadeRun:
        """Every prompt through the cascade."""
        count, last = self._score.shape[0], self._score.shape[1] - 1
        standing = np.full(count, -1)
        calls = np.zeros(count, dtype=np.int64)
        open_rows = np.arange(count)
        for seen in range(last + 1):
            right, values = values_of(
                self._beliefs, seen, self._x[seen][open_rows], self._price[open_rows], worth
            )
            way = values.argmax(axis=1)
            if seen:
                standing[open_rows[way == 0]] = self._beliefs.best_seen(right)[way == 0]
            standing[open_rows[way == 1]] = last
            calls[open_rows] = seen
            open_rows = open_rows[way > 1]
        rows = np.arange(count)
        strong = standing == last
        paid = np.where(np.arange(last) < calls[:, None], self._cost[:, :last], 0.0).sum(axis=1)
        return CascadeRun(
            quality=self._score[rows, standing],
            cost=paid + np.where(strong, self._cost[:, last], 0.0),
            strong=strong,
            calls=calls + strong,
        )

    def by_calls(self) -> tuple[Floats, Floats]:
        """With every probe asked for free: P(strong) - P(best seen), and the score that stands."""
        last = self._score.shape[1] - 1
        right = self._beliefs.stages[last].right(self._x[last])
        rows, best = np.arange(len(right)), self._beliefs.best_seen(right)
        return right[:, -1] - right[rows, best], self._score[rows, best]


def apgr_by_cost(runs: Sequence[CascadeRun], weak: Pair, strong: Pair) -> float:
    """APGR over the share of cost, every answer counted: 0 the weak alone, 1 the strong alone.

    ``weak``, ``strong``: mean (cost, score) of the models alone. The share of a run is its mean
    cost less the weak model's, over the strong model's less the weak's; mixing the two at random
    scores 1/2 here as in `metrics.apgr`. The curve is straight between runs, begins at the weak
    model alone unless some run is cheaper, and is flat past the last run.
    """
    span, gain = strong[0] - weak[0], strong[1] - weak[1]
    points = sorted(
        ((float(r.cost.mean()) - weak[0]) / span, (float(r.quality.mean()) - weak[1]) / gain)
        for r in runs
    )
    if points[0][0] > 0:
        points.insert(0, (0.0, 0.0))
    share, pgr = np.array(points).T
    grid = np.linspace(0, 1, 1001)
    return area(Curve(grid, np.interp(grid, share, pgr)))


def apgr_by_calls(lead: Floats, stands: Floats, weak: Floats, strong: Floats) -> float:
    """APGR as the field counts it for cascades: over the share of strong calls, probes free.

    ``lead``, ``stands``: from `CascadeTrial.by_calls`. PGR is still measured between the weak and
    the strong model alone, so a curve may start above 0 where probes' answers stand.
    """
    gain = float(strong.mean() - weak.mean())
    above = float(strong.mean() - stands.mean())
    start = float(stands.mean() - weak.mean()) / gain
    return start + apgr(lead, stands, strong) * above / gain
