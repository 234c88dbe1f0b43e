"""Practice for a load policy: arrivals of many kinds, and what came of each choice.

The environment is the simulator with the production dispatcher, so what is learned is learned
about the very queues, refusals and engines that it will meet; nothing stands in for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.simulation.dispatching import simulate_flow
from orchestrator.simulation.load_policy import LoadPolicy, LoadState, ModelOption, PolicyRouter
from orchestrator.simulation.measures import met
from orchestrator.simulation.run import Conditions
from orchestrator.simulator import Floats, Ints
from placement.plan import Plan
from serve_apps.router.load_values import Pool, features

UNBOUNDED = Conditions(queue_factor=float("inf"))
MOST_REQUESTS, LONGEST_S = 700, 150.0


@dataclass(frozen=True)
class Pattern:
    """Arrivals with sizes: an `orchestrator.simulator.Arrivals`; ``kind`` says what made them."""

    arrival_s: Floats
    input_tokens: Ints
    output_tokens: Ints
    kind: str

    def __len__(self) -> int:
        return len(self.arrival_s)


@dataclass(frozen=True)
class Sizes:
    """Prompt and answer lengths seen together: rows are drawn from them."""

    input_tokens: Ints
    output_tokens: Ints


def sizes_of(plan: Plan, rng: np.random.Generator, count: int = 4000) -> Sizes:
    """What the plan's routes say: a bucket by its rate, sizes spread log-normally about its mean.

    The spread (0.6) is assumed; a bucket tells no more than its bounds.
    """
    rates = np.array([r.rate_rps for r in plan.routes])
    rows = rng.choice(len(rates), size=count, p=rates / rates.sum())
    buckets = [r.bucket for r in plan.routes]
    inputs, outputs = (
        np.array([getattr(buckets[k], side) for k in rows]) * rng.lognormal(-0.18, 0.6, count)
        for side in ("input_tokens", "output_tokens")
    )
    longest = min(g.profile.max_model_len for g in plan.groups) // 2
    return Sizes(
        np.clip(inputs, 1, longest).astype(np.int64), np.clip(outputs, 1, longest).astype(np.int64)
    )


def pattern(pool: Pool, sizes: Sizes, rng: np.random.Generator) -> Pattern:
    """Gamma arrivals, or a process that jumps between two rates, at a rate drawn at random.

    From a quarter of what the first model can do up to ten times that, or all that the pool can
    do; coefficients of variation of 0.5 to 5.
    """
    first, total = pool.capacity_rps[0], sum(pool.capacity_rps)
    top = np.log(min(10.0, max(total / first, 1.0)))
    rate = first * np.exp(rng.uniform(np.log(0.25), top))
    span_s = min(LONGEST_S, max(MOST_REQUESTS / rate, 20.0))
    if rng.random() < 0.5:
        gaps, kind = _gamma(rate, span_s, rng), "gamma"
        arrival_s = np.cumsum(gaps)
    else:
        arrival_s, kind = _two_rates(rate, span_s, rng), "two rates"
    arrival_s = arrival_s[arrival_s < span_s][: 2 * MOST_REQUESTS]
    if len(arrival_s) == 0:
        arrival_s = np.array([0.0])
    rows = rng.integers(len(sizes.input_tokens), size=len(arrival_s))
    return Pattern(arrival_s, sizes.input_tokens[rows], sizes.output_tokens[rows], kind)


def _gamma(rate_rps: float, span_s: float, rng: np.random.Generator) -> Floats:
    shape = 1.0 / np.exp(rng.uniform(np.log(0.5), np.log(5.0))) ** 2
    count = int(2 * rate_rps * span_s) + 50
    found: Floats = rng.gamma(shape, 1.0 / (rate_rps * shape), count)
    return found


def _two_rates(rate_rps: float, span_s: float, rng: np.random.Generator) -> Floats:
    """Poisson at a low and a high rate in turn, so that the mean rate is as asked."""
    ratio, share = rng.uniform(2.0, 12.0), rng.uniform(0.1, 0.5)
    low = rate_rps / (1 - share + share * ratio)
    dwell_s = rng.uniform(5.0, 60.0)
    at_s, high, found = 0.0, bool(rng.random() < share), []
    while at_s < span_s:
        lasts_s = rng.exponential(dwell_s * (share if high else 1 - share) * 2)
        now = low * ratio if high else low
        found.append(at_s + np.sort(rng.uniform(0, lasts_s, rng.poisson(now * lasts_s))))
        at_s, high = at_s + lasts_s, not high
    return np.concatenate(found)


@dataclass(frozen=True)
class Episode:
    """One row per request, in order of arrival; ``seen`` is ``[requests, features]``.

    ``reward`` is the quality of the answer where it met the SLO, else 0; ``able`` tells the
    actions that were feasible when it was decided last.
    """

    seen: Floats
    able: Floats
    action: Ints
    reward: Floats
    arrival_s: Floats
    met_share: float
    best: float

    @property
    def earned_share(self) -> float:
        """Of what the best model by prediction would be worth, were it always in time."""
        return float(self.reward.sum() / self.best)


class Recorder:
    """A `LoadPolicy` that asks another one, and notes what was to be seen and what was done.

    A request that is moved is decided on again; the last decision is the one that counts.
    """

    def __init__(
        self, policy: LoadPolicy, pool: Pool, requests: int, router: Callable[[], PolicyRouter]
    ) -> None:
        self._policy = policy
        self._pool = pool
        self._router = router
        width = len(pool.models)
        self.seen = np.zeros((requests, 5 * width + 2))
        self.able = np.zeros((requests, width))
        self.action = np.zeros(requests, dtype=np.int64)

    def choose(self, options: Sequence[ModelOption], state: LoadState) -> str | None:
        """See `LoadPolicy.choose`."""
        by_name = {o.model: o for o in options}
        ordered = [by_name[m] for m in self._pool.models]
        row = self._router().request
        self.seen[row] = features(
            self._pool, ordered, state.arrival_rate_rps, state.asked.input_tokens
        )
        self.able[row] = [o.feasible for o in ordered]
        chosen = self._policy.choose(options, state)
        if chosen is not None:
            self.action[row] = self._pool.models.index(chosen)
        return chosen


def play(
    plan: Plan, pool: Pool, asked: Pattern, quality: Floats, policy: LoadPolicy, seed: int = 0
) -> Episode:
    """Serve a pattern by a policy; ``quality`` is ``[requests, models]`` in the pool's order."""
    shown: list[PolicyRouter] = []
    recorder = Recorder(policy, pool, len(asked), lambda: shown[0])
    router = PolicyRouter(plan, recorder, quality[:, _columns(plan, pool)])
    shown.append(router)
    timings = simulate_flow(plan, asked, router=router, conditions=UNBOUNDED, seed=seed)
    good = met(timings, plan.slo)
    model = np.array([pool.models.index(g.config.model) for g in plan.groups])
    by = model[np.maximum(timings.group, 0)]
    reward = np.where(good, quality[np.arange(len(asked)), by], 0.0)
    return Episode(
        seen=recorder.seen,
        able=recorder.able,
        action=np.where(timings.group >= 0, by, recorder.action),
        reward=reward,
        arrival_s=asked.arrival_s,
        met_share=float(good.mean()),
        best=float(max(quality.max(1).sum(), 1e-9)),
    )


def _columns(plan: Plan, pool: Pool) -> list[int]:
    """The pool's models in the order in which the plan's groups name them."""
    names = dict.fromkeys(g.config.model for g in plan.groups)
    return [pool.models.index(m) for m in names]
