"""Where a stepwise policy acts: a chain of thought that grows by one step at a time."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from serve_apps.router.outcomes import Outcomes
from serve_apps.router.policies.base import Answer

SMALL, LARGE = 0, 1


@dataclass(frozen=True, slots=True)
class Step:
    """One step taken: what the model wrote, its cost, and, once ``done``, the score in [0, 1]."""

    answer: Answer
    cost: float
    done: bool
    score: float = math.nan


class StepEnvironment(Protocol):
    """Prompts to reason about. One chain at a time."""

    quality: tuple[float, float]
    """Estimates of the small and the large model for the prompt at hand."""

    async def start(self) -> None:
        """Take up the next prompt."""
        ...

    async def step(self, model: int) -> Step:
        """Let the small (0) or the large (1) model write the next step."""
        ...


class SimulatedSteps:
    """SIMULATED chains, from what each model alone made of each prompt.

    Assumed, not measured: a chain has ``steps`` steps; a model that is right with probability p on
    a prompt alone keeps a sound chain sound in each step with p^(1/steps); unsound ones stay so;
    the confidence seen after a step is 1 or 0 for sound or not, plus normal noise. p is the mean
    of the model's outcome and its estimate. Costs per step are the model's own mean.
    """

    def __init__(
        self,
        outcomes: Outcomes,
        estimates: np.ndarray[Any, np.dtype[np.float64]],
        cost: tuple[float, float],
        rng: np.random.Generator,
        *,
        steps: int = 8,
        noise: float = 1.0,
    ) -> None:
        """``outcomes`` of two models, small and large; ``estimates`` [prompts, 2]; ``cost`` of a
        whole chain by each alone.
        """
        self._chance = (outcomes.score + estimates) / 2
        self._estimates = estimates
        self._models = outcomes.models
        self._cost = (cost[0] / steps, cost[1] / steps)
        self._rng = rng
        self._steps = steps
        self._noise = noise
        self._order: list[int] = []
        self.quality = (0.0, 0.0)

    async def start(self) -> None:
        """Prompts in random order, all before any comes again."""
        if not self._order:
            self._order = self._rng.permutation(len(self._chance)).tolist()
        self._prompt = self._order.pop()
        self._taken, self._sound = 0, True
        small, large = self._estimates[self._prompt]
        self.quality = (float(small), float(large))

    async def step(self, model: int) -> Step:
        """One step; the last tells whether the chain is sound."""
        hold = float(np.clip(self._chance[self._prompt, model], 1e-3, 1)) ** (1 / self._steps)
        self._sound = self._sound and bool(self._rng.random() < hold)
        self._taken += 1
        seen = float(self._sound) + self._noise * self._rng.standard_normal()
        done = self._taken == self._steps
        answer = Answer(self._models[model], signals={"lp": seen, "finished": float(done)})
        return Step(answer, self._cost[model], done, float(self._sound) if done else math.nan)


@dataclass
class EngineSteps:
    """Chains written by real models behind OpenAI-compatible completion endpoints.

    The chain so far is the prompt; a model continues it until ``stop`` or ``step_tokens``. A chain
    is done when a model ends its text by itself, writes ``answer_mark``, or ``most_steps`` are
    taken. ``post`` sends a body to a URL and returns a completion (`serve_apps.step_client`);
    ``grade`` scores a chain.
    Cost: prompt tokens that the model going on has not cached, and output tokens, each at its
    ``usd_per_token`` (input, output).
    """

    models: tuple[str, str]
    urls: tuple[str, str]
    usd_per_token: tuple[tuple[float, float], tuple[float, float]]
    prompts: Sequence[str]
    estimates: Sequence[tuple[float, float]]
    post: Callable[[str, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
    grade: Callable[[int, str], float]
    stop: str = "\n\n"
    step_tokens: int = 128
    most_steps: int = 16
    answer_mark: str = "####"
    quality: tuple[float, float] = (0.0, 0.0)
    chain: str = ""
    _prompt: int = -1
    _taken: int = 0
    _known: list[int] = field(default_factory=lambda: [0, 0])

    async def start(self) -> None:
        """The prompts in turn, from the first again after the last."""
        self._prompt = (self._prompt + 1) % len(self.prompts)
        self.chain, self._taken, self._known = "", 0, [0, 0]
        self.quality = self.estimates[self._prompt]

    async def step(self, model: int) -> Step:
        """Ask one model to go on.

        Raises:
            ValueError: the server answered with something else than a completion.
        """
        body = {
            "model": self.models[model],
            "prompt": self.prompts[self._prompt] + self.chain,
            "max_tokens": self.step_tokens,
            "stop": [self.stop],
            "temperature": 0.0,
            "logprobs": 1,
        }
        text, finish, usage, logprobs = _read(await self.post(self.urls[model], body))
        self._taken += 1
        # A model that ends by itself and one that stops at the blank line both say "stop"; only
        # vLLM tells them apart, by `stop_reason`. An empty step means there was no more to say.
        ended = finish == "end" or not text.strip() or self.answer_mark in text
        done = ended or self._taken == self.most_steps
        self.chain += text + ("" if done else self.stop)
        cost = self._cost(model, *usage)
        signals = {
            "output_tokens": float(usage[1]),
            "lp": float(np.mean(logprobs)) if logprobs else math.nan,
            "finished": float(done),
        }
        score = self.grade(self._prompt, self.chain) if done else math.nan
        return Step(Answer(self.models[model], self.chain, signals), cost, done, score)

    def _cost(self, model: int, prompt_tokens: int, output_tokens: int) -> float:
        fresh = max(prompt_tokens - self._known[model], 0)
        self._known[model] = prompt_tokens + output_tokens
        per_input, per_output = self.usd_per_token[model]
        return fresh * per_input + output_tokens * per_output


def _read(body: Mapping[str, Any]) -> tuple[str, str, tuple[int, int], list[float]]:
    """Text, why it ended ("end" for the model's own end), (prompt, output) tokens, log-probs."""
    try:
        choice = body["choices"][0]
        text, finish = str(choice["text"]), str(choice.get("finish_reason"))
        if finish == "stop" and "stop_reason" in choice and choice["stop_reason"] is None:
            finish = "end"
        usage = body.get("usage") or {}
        tokens = (int(usage.get("prompt_tokens", 0)), int(usage.get("completion_tokens", 0)))
        found = (choice.get("logprobs") or {}).get("token_logprobs") or []
        return text, finish, tokens, [float(p) for p in found if p is not None]
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"found no completion in the answer: {str(body)[:200]}") from error
