"""The highest request rate one replica sustains inside an SLO, per request size.

In the steady state of continuous batching, n sequences decode at once and each stays for o steps
of t seconds, so the rate is n / (o t) (Little's law). Each step also prefills the prompts that
arrive during it, i n / o tokens on average:

    t(n) = base + n (per_sequence + per_kv_token (i + o/2) + per_prefill_token i/o)

The SLO must hold for a share of requests, so its limits are checked at a high quantile of the
number in the batch, n + z sqrt(n): with Poisson arrivals and no queue that number is Poisson.
The prompts of others stretch an answer, during which more arrive; that spread is a busy period's.
Time to first token adds the request's overhead, the step under way, the prompt's own chunks, and
the queue of other prompts, whose tail is taken as exponential (M/D/1 in heavy traffic, Kingman
1961).

Everything is monotone in n, so bisection finds the largest n that keeps every limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from profiler.core import Profile, Slo

Floats = NDArray[np.float64]
BISECTIONS = 50
MIN_CONCURRENCY = 1e-3  # below a thousandth of a request in flight, a rate is not worth having


@dataclass(frozen=True)
class Latency:
    """Latencies at the SLO's quantile, per size: arrays of one shape, seconds."""

    ttft_s: Floats
    tpot_s: Floats


class Replica:
    """One replica serving requests of given sizes, one size at a time.

    ``input_tokens`` and ``output_tokens`` are arrays of one shape ``[sizes]``.
    """

    def __init__(self, profile: Profile, input_tokens: Floats, output_tokens: Floats) -> None:
        self.profile = profile
        self.input = np.asarray(input_tokens, float)
        self.output = np.maximum(np.asarray(output_tokens, float), 1.0)
        self._law = profile.step_time
        self._budget = profile.config.engine.max_num_batched_tokens

    def step_s(self, n: Floats) -> Floats:
        """Mean seconds of a step with n sequences in the batch, prefills of arrivals included."""
        seconds: Floats = self._decode_s(np.maximum(n, 1.0)) + n * self._prompt_s / self.output
        return seconds

    def rate_rps(self, n: Floats) -> Floats:
        """Requests per second that keep n sequences in the batch."""
        rate: Floats = n / (self.output * self.step_s(n))
        return rate

    def latency(self, n: Floats, attainment: float) -> Latency:
        """TTFT and TPOT that the share ``attainment`` of requests stays under."""
        high = np.maximum(high_quantile(n, attainment), 1.0)
        return Latency(
            self._ttft_s(n, high, attainment), self._decode_s(high) + self._prefill_s(n, attainment)
        )

    def max_concurrency(self) -> Floats:
        """The most sequences the scheduler and the KV cache admit; 0 where one is too long."""
        kv = self.profile.kv_capacity_tokens
        held = np.minimum(
            self.profile.config.engine.max_num_seqs, kv / (self.input + self.output / 2)
        )
        total = self.input + self.output
        return np.where((total <= kv) & (total <= self.profile.max_model_len), held, 0.0)

    def max_rate_rps(self, slo: Slo) -> Floats:
        """The highest rate per size with both latency targets kept; 0 where none is.

        Returns:
            array ``[sizes]``, requests per second of one replica.
        """
        most = self.max_concurrency()
        low, high = np.full_like(self.input, MIN_CONCURRENCY), np.maximum(most, MIN_CONCURRENCY)
        feasible = self._within(low, slo, most)
        for _ in range(BISECTIONS):
            mid = (low + high) / 2
            ok = self._within(mid, slo, most)
            low, high = np.where(ok, mid, low), np.where(ok, high, mid)
        return np.where(feasible, self.rate_rps(low), 0.0)

    def _within(self, n: Floats, slo: Slo, most: Floats) -> NDArray[np.bool_]:
        latency = self.latency(n, slo.attainment)
        return (
            (np.maximum(high_quantile(n, slo.attainment), 1.0) <= most)
            & (latency.ttft_s <= slo.ttft_s)
            & (latency.tpot_s <= slo.tpot_s)
        )

    @property
    def _prompt_s(self) -> Floats:
        """Seconds that one prompt adds to the steps it is prefilled in."""
        seconds: Floats = self._law.per_prefill_token_s * self.input
        return seconds

    def _prefill_s(self, n: Floats, attainment: float) -> Floats:
        """Seconds per step of other requests' prompts, at the quantile over whole answers.

        An answer lasts as an M/D/1 busy period, for the prompts that come meanwhile stretch it:
        where they fill a share f of the time, their number has mean n + q / (1 - f), with q those
        queued when the answer starts, and variance mean / (1 - f)^2. It is skewed to the right;
        the quantile is that of a lognormal with these moments.
        """
        busy = np.minimum(self.rate_rps(n) * self._prompt_s, 1 - 1e-6)
        queued = busy + busy**2 / (2 * (1 - busy))
        mean = n + queued / (1 - busy)
        sigma = np.sqrt(np.log1p(1 / (mean * (1 - busy) ** 2)))
        prompts = mean * np.exp(NormalDist().inv_cdf(attainment) * sigma - sigma**2 / 2)
        seconds: Floats = prompts * self._prompt_s / self.output
        return seconds

    def _decode_s(self, n: Floats) -> Floats:
        kv = self.input + self.output / 2
        each: Floats = self._law.per_sequence_s + self._law.per_kv_token_s * kv
        return self._law.base_s + n * each

    def _ttft_s(self, n: Floats, high: Floats, attainment: float) -> Floats:
        decode = self._decode_s(high)
        chunk = np.maximum(self._budget - high, 1.0)
        steps = np.ceil(self.input / chunk)
        own = steps * decode + self._prompt_s
        full_step = decode + self._law.per_prefill_token_s * chunk
        service = full_step * self.input / chunk
        busy = self.rate_rps(n) * service
        with np.errstate(divide="ignore", invalid="ignore"):
            wait = service / (2 * (1 - busy)) * np.log(busy / (1 - attainment))
        wait = np.where(busy > 1 - attainment, wait, 0.0)
        return np.where(busy < 1, self.profile.request_overhead_s + decode + own + wait, np.inf)


def high_quantile(n: Floats, attainment: float) -> Floats:
    """The batch size exceeded in a share ``1 - attainment`` of the time."""
    high: Floats = n + NormalDist().inv_cdf(attainment) * np.sqrt(n)
    return high


def why_infeasible(profile: Profile, input_tokens: float, output_tokens: float, slo: Slo) -> str:
    """The limit that a lone request of this size breaks on this replica, in words."""
    replica = Replica(profile, np.array([input_tokens]), np.array([output_tokens]))
    total = input_tokens + output_tokens
    if total > profile.max_model_len:
        return f"{total:.0f} tokens exceed the {profile.max_model_len} that a sequence may have"
    if total > profile.kv_capacity_tokens:
        return f"{total:.0f} tokens exceed the KV cache of {profile.kv_capacity_tokens}"
    alone = replica.latency(np.array([MIN_CONCURRENCY]), slo.attainment)
    broken = [
        f"{name} is {value * 1e3:.4g} ms with no other load, limit {limit * 1e3:.4g} ms"
        for name, value, limit in (
            ("TPOT", alone.tpot_s[0], slo.tpot_s),
            ("TTFT", alone.ttft_s[0], slo.ttft_s),
        )
        if value > limit
    ]
    return " and ".join(broken) or "no rate keeps the SLO"
