"""The highest request rate one replica sustains inside an SLO, per request size.

In the steady state of continuous batching each step decodes every running sequence once and
prefills the prompts that arrived during it. At a rate of r requests per second, with i input and
o output tokens, n = r (o - 1) t sequences decode on average (Little's law; the first of the o
tokens comes from the prefill), so a step takes

    t = base + n (per_sequence + per_kv_token (i + o/2)) + r t i per_prefill_token

which is linear in t; a law's term by batch size, where it has one, is left out. The SLO must hold
for a share of requests, so its limits are checked at a high quantile of the number in the batch, n
+ z sqrt(n): with Poisson arrivals and no queue that number is Poisson. The prompts of others
stretch an answer, during which more arrive; that spread is a busy period's. Time to first token
adds the request's overhead, the step under way, the prompt's own chunks, and the queue of other
prompts, whose tail is taken as exponential (M/D/1 in heavy traffic, Kingman 1961).
Each limit is checked at the SLO's share by itself; where both bind, the planner's headroom is
what keeps the share that meets both.

Everything grows with the rate, so bisection finds the highest that keeps every limit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from profiler.core import Profile, Slo

Floats = NDArray[np.float64]
BISECTIONS = 40
LEAST_SHARE = 1e-6  # of the ceiling; a lower rate is not worth having
TINY = 1e-12


@dataclass(frozen=True)
class Latency:
    """Latencies at a quantile, per size: arrays of one shape, seconds.

    TPOT is 0 for answers of one token, which have none.
    """

    ttft_s: Floats
    tpot_s: Floats


class Replica:
    """One replica serving requests of given sizes, one size at a time; or several side by side.

    ``input_tokens`` and ``output_tokens`` are arrays of one shape ``[sizes]``. Of one profile every
    figure has that shape; of several, which is much quicker than one by one, ``[profiles, sizes]``.
    """

    def __init__(
        self,
        profile: Profile | Sequence[Profile],
        input_tokens: Floats,
        output_tokens: Floats,
    ) -> None:
        def each(read: Callable[[Profile], float]) -> Floats:
            if isinstance(profile, Profile):
                return np.array(read(profile), float)
            return np.array([read(p) for p in profile], float).reshape(-1, 1)

        self.input = np.asarray(input_tokens, float)
        self.output = np.maximum(np.asarray(output_tokens, float), 1.0)
        self._base_s = each(lambda p: p.step_time.base_s)
        self._prefill_s = each(lambda p: p.step_time.per_prefill_token_s)
        self._prompt_s: Floats = self._prefill_s * self.input
        kv_tokens = self.input + self.output / 2
        per_sequence_s = each(lambda p: p.step_time.per_sequence_s)
        per_kv_token_s = each(lambda p: p.step_time.per_kv_token_s)
        self._decode_s: Floats = per_sequence_s + per_kv_token_s * kv_tokens
        self._decodes = self.output - 1
        self._budget = each(lambda p: p.config.engine.max_num_batched_tokens)
        self._seqs = each(lambda p: p.config.engine.max_num_seqs)
        self._kv_tokens = each(lambda p: p.kv_capacity_tokens)
        self._longest = each(lambda p: p.max_model_len)
        self._overhead_s = each(lambda p: p.request_overhead_s)

    @property
    def work_s(self) -> Floats:
        """Seconds of engine time one request takes besides its share of empty steps."""
        work: Floats = self._prompt_s + self._decodes * self._decode_s
        return work

    def step_s(self, rate_rps: Floats) -> Floats:
        """Mean seconds of a step at a rate; infinite where the work never ends."""
        left = 1 - rate_rps * self.work_s
        with np.errstate(divide="ignore"):
            return np.where(left > 0, self._base_s / np.maximum(left, 0.0), np.inf)

    def concurrency(self, rate_rps: Floats) -> Floats:
        """Mean number of sequences decoding at a rate."""
        running: Floats = rate_rps * self._decodes * self.step_s(rate_rps)
        return running

    def latency(self, rate_rps: Floats, attainment: float) -> Latency:
        """TTFT and TPOT that the share ``attainment`` of requests stays under."""
        n = self.concurrency(rate_rps)
        batch_s = self._base_s + np.maximum(high_quantile(n, attainment), 1.0) * self._decode_s
        prompts_s = self._prompts_per_answer(rate_rps, n, attainment) * self._prompt_s
        tpot = batch_s + prompts_s / np.maximum(self._decodes, 1.0)
        return Latency(
            self._ttft_s(rate_rps, n, attainment), np.where(self._decodes > 0, tpot, 0.0)
        )

    def max_concurrency(self) -> Floats:
        """The most sequences the scheduler and the KV cache admit; 0 where one is too long."""
        held = np.minimum(self._seqs, self._kv_tokens / (self.input + self.output / 2))
        total = self.input + self.output
        return np.where((total <= self._kv_tokens) & (total <= self._longest), held, 0.0)

    def max_rate_rps(self, slo: Slo) -> Floats:
        """Requests per second of one replica, with both latency targets kept; 0 where none is."""
        most = self.max_concurrency()
        high = self._ceiling_rps()
        low = high * LEAST_SHARE
        feasible = self._within(low, slo, most)
        for _ in range(BISECTIONS):
            mid = (low + high) / 2
            ok = self._within(mid, slo, most)
            low, high = np.where(ok, mid, low), np.where(ok, high, mid)
        return np.where(feasible, low, 0.0)

    def _ceiling_rps(self) -> Floats:
        """A rate above any that can be sustained: all time is work, or every step is full."""
        busy: Floats = 1 / np.maximum(self.work_s, TINY)
        full = self._seqs / np.maximum(self._decodes * self._base_s, TINY)
        ceiling: Floats = np.minimum(busy, full)
        return ceiling

    def _within(self, rate_rps: Floats, slo: Slo, most: Floats) -> NDArray[np.bool_]:
        latency = self.latency(rate_rps, slo.attainment)
        running = high_quantile(self.concurrency(rate_rps), slo.attainment)
        return (
            (np.maximum(running, 1.0) <= most)
            & (latency.ttft_s <= slo.ttft_s)
            & (latency.tpot_s <= slo.tpot_s)
        )

    def _prompts_per_answer(self, rate_rps: Floats, n: Floats, attainment: float) -> Floats:
        """Other requests' prompts prefilled while one is answered, at the quantile over answers.

        An answer lasts as an M/D/1 busy period, for the prompts that come meanwhile stretch it:
        where they fill a share f of the time, their number has mean n + q / (1 - f), with q those
        queued when the answer starts, and variance mean / (1 - f)^2. It is skewed to the right;
        the quantile is that of a lognormal with these moments.
        """
        busy = np.minimum(rate_rps * self._prompt_s, 1 - 1e-6)
        queued = busy + busy**2 / (2 * (1 - busy))
        mean = np.maximum(n + queued / (1 - busy), 1e-12)
        sigma = np.sqrt(np.log1p(1 / (mean * (1 - busy) ** 2)))
        prompts: Floats = mean * np.exp(NormalDist().inv_cdf(attainment) * sigma - sigma**2 / 2)
        return prompts

    def _ttft_s(self, rate_rps: Floats, n: Floats, attainment: float) -> Floats:
        others = np.maximum(high_quantile(n, attainment), 0.0)
        batch_s = self._base_s + others * self._decode_s
        chunk = np.maximum(self._budget - others, 1.0)
        own = np.ceil(self.input / chunk) * batch_s + self._prompt_s
        full_step = batch_s + self._prefill_s * chunk
        service = full_step * self.input / chunk
        busy = rate_rps * service
        with np.errstate(divide="ignore", invalid="ignore"):
            wait = service / (2 * (1 - busy)) * np.log(busy / (1 - attainment))
        under_way = np.where(n > 0, batch_s, 0.0) + np.where(busy > 1 - attainment, wait, 0.0)
        ttft = self._overhead_s + own + under_way
        return np.where((busy < 1) & np.isfinite(n), ttft, np.inf)


def high_quantile(n: Floats, attainment: float) -> Floats:
    """The batch size exceeded in a share ``1 - attainment`` of the time."""
    high: Floats = n + NormalDist().inv_cdf(attainment) * np.sqrt(n)
    return high


def lone_latency(profile: Profile, input_tokens: float, output_tokens: float, slo: Slo) -> Latency:
    """What a request of this size waits on an otherwise idle replica; arrays of one."""
    replica = Replica(profile, np.array([input_tokens]), np.array([output_tokens]))
    return replica.latency(np.array([TINY]), slo.attainment)


def why_infeasible(profile: Profile, input_tokens: float, output_tokens: float, slo: Slo) -> str:
    """The limit that a lone request of this size breaks on this replica, in words."""
    total = input_tokens + output_tokens
    if total > profile.max_model_len:
        return f"{total:.0f} tokens exceed the {profile.max_model_len} that a sequence may have"
    if total > profile.kv_capacity_tokens:
        return f"{total:.0f} tokens exceed the KV cache of {profile.kv_capacity_tokens}"
    alone = lone_latency(profile, input_tokens, output_tokens, slo)
    broken = [
        f"{name} is {value * 1e3:.4g} ms with no other load, limit {limit * 1e3:.4g} ms"
        for name, value, limit in (
            ("TPOT", alone.tpot_s[0], slo.tpot_s),
            ("TTFT", alone.ttft_s[0], slo.ttft_s),
        )
        if value > limit
    ]
    return " and ".join(broken) or "no rate keeps the SLO"
