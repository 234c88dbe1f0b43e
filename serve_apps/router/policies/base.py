"""The policy protocol, and what passes through it: a request in, a choice out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class NoFeasibleModelError(Exception):
    """No model of the pool would answer inside its latency targets: shed the request."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request as a policy sees it; every sequence has one entry per model of the pool.

    ``quality`` and ``quality_sd`` are the estimator's. ``price`` is what an answer costs now, in
    one unit for all models (dollars, or the plan's price of load), see `router.pricing`.
    ``feasible``: the model would answer inside the latency targets. ``worth`` is what one unit of
    quality is worth to this request in the unit of price; None: the policy's own setting.
    ``features`` is the prompt's vector, for policies that learn.
    """

    models: tuple[str, ...]
    quality: Sequence[float]
    price: Sequence[float]
    quality_sd: Sequence[float] = ()
    feasible: Sequence[bool] = ()
    worth: float | None = None
    features: Floats | None = None

    def candidates(self) -> Sequence[int]:
        """Positions of the feasible models.

        Raises:
            NoFeasibleModelError: there is none.
        """
        if not self.feasible:
            return range(len(self.models))
        found = [i for i, ok in enumerate(self.feasible) if ok]
        if not found:
            raise NoFeasibleModelError
        return found

    def can(self, model: str) -> bool:
        """Whether a model is in the pool and feasible."""
        if model not in self.models:
            return False
        return not self.feasible or bool(self.feasible[self.models.index(model)])


@dataclass(frozen=True, slots=True)
class Answer:
    """What a called model said: the extracted answer, "" for none, and figures about it.

    ``signals`` are those of an outcome table (``p_first``, ``lp``, ``p_min``, ``margin``) and
    ``output_tokens``; a name that is missing or NaN is unknown.
    """

    model: str
    text: str = ""
    signals: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Choice:
    """Who answers, and why, in one line.

    ``final``: what ``model`` says is returned; where ``stands`` is set, it was said already, and is
    that position of ``seen``. Otherwise ``model`` and ``also`` are called, at the same time, and
    the policy is asked again with what they said. ``samples`` and ``strategy`` say how often, and
    with which prompt; under the strategy "step" a model continues the last answer by one step.
    """

    model: str
    reason: str
    final: bool = True
    also: tuple[str, ...] = ()
    samples: int = 1
    strategy: str = ""
    stands: int | None = None

    @property
    def calls(self) -> tuple[str, ...]:
        """Every model named."""
        return (self.model, *self.also)


class Policy(Protocol):
    """Chooses; called on the request's path, so it is quick and does no input or output."""

    @property
    def name(self) -> str:
        """What the registry calls it."""
        ...

    def choose(self, ask: Ask, seen: Sequence[Answer] = ()) -> Choice:
        """The next step for a request, ``seen`` being what was answered so far.

        Raises:
            NoFeasibleModelError: no model would answer inside its latency targets.
        """
        ...


@runtime_checkable
class LearningPolicy(Protocol):
    """A policy that learns from what its choices brought."""

    def learn(self, ask: Ask, model: str, quality: float, cost: float) -> None:
        """Take in that ``model`` answered ``ask`` so well and for so much."""
        ...
