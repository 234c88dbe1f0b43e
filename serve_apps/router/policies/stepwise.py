"""A chain of thought, each step by the small or by the large model: a small learned controller.

Trained by REINFORCE (Williams, 1992) on worth * score - cost, with a baseline that is linear in
what is known at the start, in any `StepEnvironment`; its threshold is then calibrated for a
budget, so that one trained controller serves many budgets. After training nothing is random.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from serve_apps.router.policies.base import Answer, Ask, Choice, Floats, NoFeasibleModelError
from serve_apps.router.policies.steps import LARGE, SMALL, Step, StepEnvironment

WIDTH = 8


@dataclass(frozen=True)
class Stepwise:
    """The large model goes on where ``weights`` . observation is at least ``threshold``.

    The observation: 1, both estimates, their gap, the last and the worst confidence so far (mean
    log-probability of a step), steps taken, share of steps by the large model.
    """

    small: str
    large: str
    weights: Floats
    threshold: float = 0.0
    name: str = "stepwise"

    def choose(self, ask: Ask, seen: Sequence[Answer] = ()) -> Choice:
        """Who writes the next step; the chain stands once it is finished."""
        if seen and seen[-1].signals.get("finished"):
            return Choice(seen[-1].model, f"{len(seen)} steps", stands=len(seen) - 1)
        quality = tuple(ask.quality[ask.models.index(m)] for m in (self.small, self.large))
        score = float(self.weights @ observe((quality[0], quality[1]), seen, self.large))
        model = self.large if score >= self.threshold else self.small
        if not ask.can(model):
            model = self.small if model == self.large else self.large
            if not ask.can(model):
                raise NoFeasibleModelError
        reason = f"step {len(seen) + 1}: {score:+.2f}, threshold {self.threshold:+.2f}"
        return Choice(model, reason, final=False, strategy="step")


def observe(quality: tuple[float, float], seen: Sequence[Answer], large: str) -> Floats:
    """What the controller sees, ``[WIDTH]``; unknown confidences read as 0."""
    confidence = [_known(a.signals.get("lp", math.nan)) for a in seen]
    return np.array(
        [
            1.0,
            quality[0],
            quality[1],
            quality[1] - quality[0],
            confidence[-1] if seen else 0.0,
            min(confidence, default=0.0),
            len(seen) / 10,
            sum(a.model == large for a in seen) / max(len(seen), 1),
        ]
    )


def _known(value: float) -> float:
    return 0.0 if math.isnan(value) else value


@dataclass(frozen=True)
class Episode:
    """A finished chain."""

    observations: Floats
    actions: Floats
    score: float
    cost: float


async def run_chain(
    env: StepEnvironment, policy: Stepwise, rng: np.random.Generator | None = None
) -> Episode:
    """One prompt to its end; with a generator each step is drawn from the policy's probability."""
    await env.start()
    seen: list[Answer] = []
    observations, actions, cost = [], [], 0.0
    while True:
        x = observe(env.quality, seen, policy.large)
        score = float(policy.weights @ x) - policy.threshold
        large = score >= 0 if rng is None else rng.random() < _sigmoid(score)
        step: Step = await env.step(LARGE if large else SMALL)
        seen.append(replace(step.answer, model=policy.large if large else policy.small))
        observations.append(x)
        actions.append(float(large))
        cost += step.cost
        if step.done:
            return Episode(np.array(observations), np.array(actions), step.score, cost)


async def train(
    env: StepEnvironment,
    small: str,
    large: str,
    *,
    worth: float,
    rng: np.random.Generator,
    episodes: int = 2000,
    rate: float = 1.0,
    batch: int = 25,
) -> Stepwise:
    """Climb the expected worth * score - cost, by batches of chains.

    An advantage is what a chain brought beyond what its prompt's estimates let expect, in
    standard deviations of the batch. A weight decay keeps the policy from certainty.
    """
    policy = Stepwise(small, large, np.zeros(WIDTH))
    for _ in range(max(episodes // batch, 1)):
        chains = [await run_chain(env, policy, rng) for _ in range(batch)]
        value = np.array([worth * c.score - c.cost for c in chains])
        lead = _beyond_expected(np.stack([c.observations[0] for c in chains]), value)
        climb = np.zeros(WIDTH)
        for chain, advantage in zip(chains, lead, strict=True):
            p = _sigmoid(chain.observations @ policy.weights)
            climb += advantage * ((chain.actions - p) @ chain.observations)
        policy = replace(policy, weights=(policy.weights + rate * climb / batch) * (1 - 1e-3))
    return policy


def _beyond_expected(start: Floats, value: Floats, ridge: float = 1e-2) -> Floats:
    moments = start.T @ start + ridge * np.eye(WIDTH)
    left = value - start @ np.linalg.solve(moments, start.T @ value)
    return np.asarray(left / (left.std() + 1e-9))


@dataclass(frozen=True)
class Setting:
    """A threshold, and the mean score and cost of chains run with it."""

    threshold: float
    score: float
    cost: float


async def trace_thresholds(
    env: StepEnvironment, policy: Stepwise, *, chains: int = 200, points: int = 9
) -> list[Setting]:
    """Try thresholds over the range of scores that chains show; prompts kept for calibration."""
    shown = [await run_chain(env, policy) for _ in range(chains)]
    scores = np.concatenate([c.observations for c in shown]) @ policy.weights
    found = []
    edges = np.quantile(scores, np.linspace(0, 1, points))
    for threshold in (edges[0] - 1e-9, *edges[1:-1], edges[-1] + 1e-9):
        runs = [
            await run_chain(env, replace(policy, threshold=float(threshold))) for _ in range(chains)
        ]
        score = float(np.mean([r.score for r in runs]))
        found.append(Setting(float(threshold), score, float(np.mean([r.cost for r in runs]))))
    return found


def calibrated(policy: Stepwise, settings: Sequence[Setting], budget: float) -> Stepwise:
    """The policy at the best threshold whose mean cost keeps the budget, else the cheapest."""
    kept = [s for s in settings if s.cost <= budget]
    best = max(kept, key=lambda s: (s.score, -s.cost)) if kept else min(settings, key=_cost)
    return replace(policy, threshold=best.threshold)


def _cost(setting: Setting) -> float:
    return setting.cost


def _sigmoid(z: float | Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(z, -35, 35))))
