"""A load policy by reinforcement: a dueling double DQN on episodes of the simulator.

One step is one request. The reward is the quality of its answer where it met the SLO, less that
of the last model's, which leaves the best policy about as it is and the values small. Dueling
heads: Wang et al. 2016 (arXiv 1511.06581); double Q-learning: van Hasselt et al. 2016 (1509.06461).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from orchestrator.simulation.load_episodes import Episode, Pattern, Sizes, pattern, play
from orchestrator.simulation.load_policy import (
    Learned,
    LoadPolicy,
    LoadState,
    ModelOption,
    Priced,
)
from orchestrator.simulator import Floats
from placement.plan import Plan
from serve_apps.router.load_values import Layers, LoadValues, Pool, Verdict

HIDDEN = 64
HORIZON_S = 5.0
MOST_DISCOUNT = 0.97
"""What a choice does to others lasts about as long as the answer's prompt and the queue."""
BATCH, STEPS, REPLAY = 256, 120, 120_000
LEARNING_RATE, POLYAK, CLIP = 1e-3, 0.01, 5.0
GUIDED = 0.35
"""Share of episodes played by the priced policy with a worth drawn at random: Q-learning may
learn from whoever acts, and good conduct is seen from the start."""
WORTHS_USD = (0.01, 0.02, 0.05, 0.15, 0.5, 1.5)
"""The priced policy is tried with each: the best must not lie at the end."""
VALIDATIONS = 4

Draw = Callable[[int, np.random.Generator], Floats]
"""Predicted qualities of so many requests, ``[requests, models]``."""
NO_VERDICT = Verdict(0.0, 0.0, 0.0, 0.0, 0.0, 0, 0.0)


@dataclass(frozen=True)
class Practice:
    """Where to practise: the plan, sizes, and how good answers are expected to be."""

    plan: Plan
    pool: Pool
    sizes: Sizes
    quality: Draw

    def episode(self, rng: np.random.Generator, policy: LoadPolicy) -> Episode:
        """One pattern of arrivals, served by a policy."""
        asked, quality = self.drawn(rng)
        return play(self.plan, self.pool, asked, quality, policy, int(rng.integers(2**31)))

    def drawn(self, rng: np.random.Generator) -> tuple[Pattern, Floats]:
        """Arrivals and qualities."""
        asked = pattern(self.pool, self.sizes, rng)
        return asked, self.quality(len(asked), rng)


class DuelingNet(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Value of the state and advantage of each model, from two hidden layers."""

    def __init__(self, width: int, models: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(width, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU()
        )
        self.value, self.advantage = nn.Linear(HIDDEN, 1), nn.Linear(HIDDEN, models)

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        """``[batch, models]``."""
        hidden = self.body(seen)
        advantage: torch.Tensor = self.advantage(hidden)
        found: torch.Tensor = self.value(hidden) + advantage - advantage.mean(1, keepdim=True)
        return found

    def layers(self) -> Layers:
        """As plain arrays: the advantage alone ranks the models."""
        linear = [self.body[0], self.body[2], self.advantage]
        return tuple(
            (one.weight.detach().numpy().T.astype(float), one.bias.detach().numpy().astype(float))
            for one in linear
            if isinstance(one, nn.Linear)
        )


@dataclass
class Explorer:
    """Acts by the network, and now and then at random, for a few requests on end."""

    values: LoadValues
    epsilon: float
    rng: np.random.Generator
    _left: int = field(default=0, init=False)
    _at: int = field(default=0, init=False)

    def choose(self, options: Sequence[ModelOption], state: LoadState) -> str | None:
        """See `LoadPolicy.choose`."""
        able = [o.model for o in options if o.feasible]
        if not able:
            return None
        if self._left == 0 and self.rng.random() < self.epsilon:
            self._left, self._at = int(self.rng.integers(1, 6)), int(self.rng.integers(99))
        if self._left:
            self._left -= 1
            return able[self._at % len(able)]
        return self.values.best(options, state.arrival_rate_rps, state.asked.input_tokens)


class Replay:
    """The latest transitions, as arrays."""

    def __init__(self, width: int, models: int) -> None:
        self._seen = np.zeros((REPLAY, width), np.float32)
        self._then = np.zeros((REPLAY, width), np.float32)
        self._able = np.zeros((REPLAY, models), np.float32)
        self._action = np.zeros(REPLAY, np.int64)
        self._reward = np.zeros(REPLAY, np.float32)
        self._discount = np.zeros(REPLAY, np.float32)
        self._count = 0

    def __len__(self) -> int:
        return min(self._count, REPLAY)

    def add(self, episode: Episode) -> None:
        """All of an episode's steps but the last, after which nothing is known."""
        count = len(episode.action) - 1
        if count < 1:
            return
        at = np.arange(self._count, self._count + count) % REPLAY
        gap_s = np.diff(episode.arrival_s)
        nobody = episode.able[1:].sum(1) == 0
        quality_at = np.arange(2, episode.seen.shape[1], 5)
        base = episode.seen[:-1, quality_at[-1]]
        self._seen[at], self._then[at] = episode.seen[:-1], episode.seen[1:]
        self._able[at] = np.where(nobody[:, None], 1.0, episode.able[1:])
        self._action[at] = episode.action[:-1]
        self._reward[at] = episode.reward[:-1] - base
        self._discount[at] = np.minimum(np.exp(-gap_s / HORIZON_S), MOST_DISCOUNT)
        self._count += count

    def draw(self, rng: np.random.Generator) -> list[torch.Tensor]:
        """A batch: seen, action, reward, discount, then, able then."""
        rows = rng.integers(len(self), size=BATCH)
        columns = self._seen, self._action, self._reward, self._discount, self._then, self._able
        return [torch.from_numpy(c[rows]) for c in columns]


class Learner:
    """The network, its slow copy, and the steps that fit it."""

    def __init__(self, pool: Pool, seed: int) -> None:
        torch.manual_seed(seed)
        width, models = 5 * len(pool.models) + 2, len(pool.models)
        self._pool = pool
        self._net, self._slow = DuelingNet(width, models), DuelingNet(width, models)
        self._slow.load_state_dict(self._net.state_dict())
        self._optimiser = torch.optim.Adam(self._net.parameters(), lr=LEARNING_RATE)
        self.replay = Replay(width, models)

    def values(self) -> LoadValues:
        """The network as it is now, without a verdict."""
        return LoadValues(self._pool, self._net.layers(), NO_VERDICT)

    def fit(self, steps: int, rng: np.random.Generator) -> None:
        """So many steps of double Q-learning."""
        for _ in range(steps):
            seen, action, reward, discount, then, able = self.replay.draw(rng)
            with torch.no_grad():
                best = (self._net(then) + (able - 1) * 1e9).argmax(1, keepdim=True)
                target = reward + discount * self._slow(then).gather(1, best).squeeze(1)
            told = self._net(seen).gather(1, action[:, None]).squeeze(1)
            loss = nn.functional.smooth_l1_loss(told, target)
            self._optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self._net.parameters(), CLIP)
            self._optimiser.step()
            with torch.no_grad():
                for slow, fast in zip(self._slow.parameters(), self._net.parameters(), strict=True):
                    slow.lerp_(fast, POLYAK)


@dataclass(frozen=True)
class Progress:
    """After an episode: how many there were, requests served, seconds passed."""

    episodes: int
    requests: int
    elapsed_s: float


def learn(
    practice: Practice,
    *,
    seconds: float,
    seed: int = 0,
    trials: int = 24,
    most_episodes: int = 100_000,
    clock: Callable[[], float] = time.monotonic,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> LoadValues:
    """Practise for about so many seconds (of at most ``most_episodes``), then be tried.

    The network that did best in a few validations is kept. The verdict is on ``trials`` other
    patterns, beside the priced policy with the worth that did best in the same validations.
    """
    torch.set_num_threads(1)
    rng = np.random.default_rng([seed, 1])
    learner, started_s, episodes, requests = Learner(practice.pool, seed), clock(), 0, 0
    best, best_share = learner.values(), -np.inf
    checks, patterns = 0, max(trials // 2, 2)
    while True:
        spent = max((clock() - started_s) / seconds, episodes / most_episodes)
        if (checks + 1) / VALIDATIONS <= spent + 1e-9:
            checks += 1
            share = _share(practice, Learned(learner.values()), patterns, seed, held=2)[0].mean()
            if share > best_share:
                best, best_share = learner.values(), float(share)
        if spent >= 1:
            break
        episode = practice.episode(rng, _actor(learner.values(), spent, rng))
        learner.replay.add(episode)
        if len(learner.replay) >= BATCH:
            learner.fit(STEPS, rng)
        episodes, requests = episodes + 1, requests + len(episode.action)
        on_progress(Progress(episodes, requests, clock() - started_s))
    return _tried(practice, best, trials, patterns, seed)


def _actor(values: LoadValues, spent: float, rng: np.random.Generator) -> LoadPolicy:
    if rng.random() < GUIDED * (1.2 - spent):
        return Priced(float(np.exp(rng.uniform(np.log(0.02), np.log(5.0)))))
    return Explorer(values, max(0.04, 0.5 * (1 - 2 * spent)), rng)


def _share(
    practice: Practice, policy: LoadPolicy, patterns: int, seed: int, held: int
) -> tuple[Floats, Floats]:
    """Earned share and attainment on each pattern of a set that is named by ``held``."""
    played = [
        practice.episode(np.random.default_rng([seed, held, k]), policy) for k in range(patterns)
    ]
    return np.array([e.earned_share for e in played]), np.array([e.met_share for e in played])


def _tried(
    practice: Practice, best: LoadValues, trials: int, patterns: int, seed: int
) -> LoadValues:
    """The verdict, on patterns that nobody was chosen by."""
    worth = max(
        WORTHS_USD, key=lambda w: _share(practice, Priced(w), patterns, seed, held=2)[0].mean()
    )
    ours, ours_met = _share(practice, Learned(best), trials, seed, held=3)
    theirs, theirs_met = _share(practice, Priced(worth), trials, seed, held=3)
    error = float((ours - theirs).std(ddof=1) / np.sqrt(trials)) if trials > 1 else np.inf
    verdict = Verdict(
        learned=float(ours.mean()),
        priced=float(theirs.mean()),
        error=error,
        learned_attainment=float(ours_met.mean()),
        priced_attainment=float(theirs_met.mean()),
        patterns=trials,
        worth_usd=worth,
    )
    return LoadValues(best.pool, best.layers, verdict)
