"""Contextual bandits: learn from feedback which model to trust, beyond what the estimator knows.

Each model has a linear model of what its estimate is off by: reward - quality = theta . x. With no
feedback yet the bandit is the utility policy; uncertainty about theta makes it try models.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from serve_apps.router.policies.base import Answer, Ask, Choice, Floats
from serve_apps.router.policies.pacing import Pacer


class _LinearBandit(ABC):
    """What both bandits share: the context, ridge regression by rank-one updates, the choice."""

    name: str

    def __init__(
        self,
        models: Sequence[str],
        *,
        dimensions: int = 0,
        worth: float = math.inf,
        ridge: float = 10.0,
        pacer: Pacer | None = None,
    ) -> None:
        """``dimensions`` is the length of ``Ask.features``, 0 to go by the estimates alone.

        ``ridge``: how many answers the estimates are trusted for; single answers are noisy, and the
        model whose luck was best is the one that is chosen.
        """
        self.models = tuple(models)
        self.pacer = pacer
        self._worth = worth
        self._dimensions = dimensions
        size = dimensions + 2
        self._inverse = np.stack([np.eye(size) / ridge] * len(self.models))
        self._sum = np.zeros((len(self.models), size))
        self._theta = np.zeros((len(self.models), size))

    def choose(self, ask: Ask, seen: Sequence[Answer] = ()) -> Choice:  # noqa: ARG002
        """argmax of worth * (estimate + correction) - price; the budget's worth may lower it.

        Where neither the request, the policy nor the budget puts a price on quality, the best.
        """
        worth = self._worth if ask.worth is None else ask.worth
        if self.pacer is not None:
            worth = min(worth, self.pacer.worth)
        candidates = list(ask.candidates())
        at = [self.models.index(ask.models[i]) for i in candidates]
        x = self._contexts(ask, candidates)
        quality = np.array([ask.quality[i] for i in candidates])
        score = quality + self._corrections(at, x)
        price = np.array([ask.price[i] for i in candidates])
        value = score if math.isinf(worth) else worth * score - price
        k = int(value.argmax())
        reason = f"quality {quality[k]:.2f}, with feedback {score[k]:.2f}"
        return Choice(ask.models[candidates[k]], reason)

    def learn(self, ask: Ask, model: str, quality: float, cost: float) -> None:
        """Take in a reward in [0, 1]; O(dimensions^2)."""
        i, m = ask.models.index(model), self.models.index(model)
        x = self._contexts(ask, [i])[0]
        spread = self._inverse[m] @ x
        self._inverse[m] -= np.outer(spread, spread) / (1 + x @ spread)  # Sherman-Morrison
        self._sum[m] += (quality - ask.quality[i]) * x
        self._theta[m] = self._inverse[m] @ self._sum[m]
        if self.pacer is not None:
            self.pacer.spend(cost)

    @abstractmethod
    def _corrections(self, at: Sequence[int], x: Floats) -> Floats:
        """What to add to the estimates of the models at these positions; ``x`` [models, d]."""

    def _mean_and_width(self, at: Sequence[int], x: Floats) -> tuple[Floats, Floats]:
        """theta . x and sqrt(x' A^-1 x) of each model."""
        mean = (self._theta[at] * x).sum(axis=1)
        variance = np.einsum("kd,kde,ke->k", x, self._inverse[at], x)
        return mean, np.sqrt(np.maximum(variance, 0.0))

    def _contexts(self, ask: Ask, candidates: Sequence[int]) -> Floats:
        x = np.empty((len(candidates), self._dimensions + 2))
        x[:, 0] = 1.0
        x[:, 1] = [2 * ask.quality[i] - 1 for i in candidates]
        if self._dimensions:
            assert ask.features is not None
            x[:, 2:] = ask.features
        return x

    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """What was learned, to be kept over a restart."""
        return {"models": np.array(self.models), "inverse": self._inverse, "sum": self._sum}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Take up what `arrays` kept; models that are new start afresh.

        Raises:
            KeyError, ValueError: arrays that `arrays` did not make; nothing is taken up.
        """
        known = {str(m): i for i, m in enumerate(arrays["models"])}
        size = arrays["sum"].shape[-1]
        if arrays["sum"].shape != (len(known), size):
            raise ValueError(f"sums {arrays['sum'].shape} of {len(known)} models")
        if arrays["inverse"].shape != (len(known), size, size):
            raise ValueError(f"inverses {arrays['inverse'].shape} of {len(known)} models")
        for i, model in enumerate(self.models):
            if model in known and arrays["sum"].shape[1] == self._sum.shape[1]:
                self._inverse[i] = arrays["inverse"][known[model]]
                self._sum[i] = arrays["sum"][known[model]]
                self._theta[i] = self._inverse[i] @ self._sum[i]
        return self


class LinUcb(_LinearBandit):
    """The upper confidence bound: theta . x + ``optimism`` * sqrt(x' A^-1 x).

    Li et al., A Contextual-Bandit Approach (arXiv 1003.0146), algorithm 1, disjoint models.
    """

    name = "lin_ucb"

    def __init__(self, models: Sequence[str], *, optimism: float = 0.1, **settings: Any) -> None:
        """``settings``: ``dimensions``, ``worth``, ``ridge``, ``pacer``."""
        super().__init__(models, **settings)
        self._optimism = optimism

    def _corrections(self, at: Sequence[int], x: Floats) -> Floats:
        mean, width = self._mean_and_width(at, x)
        return mean + self._optimism * width


class Thompson(_LinearBandit):
    """A draw from the posterior: theta ~ N(A^-1 b, ``spread``^2 A^-1).

    Agrawal and Goyal, Thompson Sampling for Contextual Bandits (arXiv 1209.3352), algorithm 1.
    """

    name = "thompson"

    def __init__(
        self,
        models: Sequence[str],
        *,
        rng: np.random.Generator,
        spread: float = 0.1,
        **settings: Any,
    ) -> None:
        """``settings``: ``dimensions``, ``worth``, ``ridge``, ``pacer``."""
        super().__init__(models, **settings)
        self._rng = rng
        self._spread = spread

    def _corrections(self, at: Sequence[int], x: Floats) -> Floats:
        # theta . x is normal with variance x' A^-1 x: one draw in place of a vector's.
        mean, width = self._mean_and_width(at, x)
        return mean + self._spread * width * self._rng.standard_normal(len(at))
