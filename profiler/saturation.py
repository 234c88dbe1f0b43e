"""The rate at which a live engine stops meeting an SLO, found by trying: open loop, bisection.

Each trial sends Poisson arrivals of one request size at one rate and asks what share of them met
both targets. The search starts from the rate that the profile predicts, so few trials do.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from profiler.capacity import Replica
from profiler.client import replay
from profiler.core import MeasuredRate, Profile, SizeBucket, Slo
from profiler.errors import InputError
from profiler.timing import Clock, Outcome, raise_for
from profiler.traces import Trace
from profiler.workload import DEFAULT_GRID

PRECISION = 1.15
"""The highest rate that met the SLO and the lowest that missed it, this factor apart: done."""
WIDEN = 1.5
MAX_TRIALS = 8
LEAST_REQUESTS = 20
MOST_REQUESTS = 400
TRIALS_PLANNED = 4


@dataclass(frozen=True)
class Trial:
    """One rate tried: how many requests were sent, and the share that met the SLO."""

    bucket: SizeBucket
    rate_rps: float
    requests: int
    attainment: float


def bucket_of(input_tokens: int, output_tokens: int) -> SizeBucket:
    """The planner's size bucket that a request size falls into, with that size as its mean."""
    grid = DEFAULT_GRID.covering(input_tokens, output_tokens)
    return SizeBucket(
        input_range=_range(grid.input_edges, input_tokens),
        output_range=_range(grid.output_edges, output_tokens),
        input_tokens=input_tokens,
        output_tokens=output_tokens,
    )


def _range(edges: Sequence[int], tokens: int) -> tuple[int, int]:
    above = int(np.searchsorted(edges, tokens))
    return (edges[above - 1] if above else 0, edges[above])


def predicted_rps(profile: Profile, bucket: SizeBucket, slo: Slo) -> float:
    """The rate of one size inside the SLO by the profile's step-time law."""
    sizes = np.array([bucket.input_tokens]), np.array([bucket.output_tokens])
    return float(Replica(profile, *sizes).max_rate_rps(slo)[0])


def _alone_rps(profile: Profile, bucket: SizeBucket) -> float:
    """A rate at which requests seldom meet: where to start when none is predicted to hold."""
    sizes = np.array([bucket.input_tokens]), np.array([bucket.output_tokens])
    alone = Replica(profile, *sizes).latency(np.array([1e-9]), 0.5)
    answer_s = alone.ttft_s[0] + (bucket.output_tokens - 1) * alone.tpot_s[0]
    return float(0.5 / answer_s)


def search(start_rps: float) -> Generator[float, bool, float]:
    """Rates to try; send whether each met the SLO. Returns the highest that did, 0 for none."""
    low, high, rate = 0.0, math.inf, start_rps
    for _ in range(MAX_TRIALS):
        if (yield rate):
            low = max(low, rate)
        else:
            high = min(high, rate)
        if low and high / low <= PRECISION:
            break
        if not low:
            rate = high / WIDEN
        else:
            rate = low * WIDEN if math.isinf(high) else math.sqrt(low * high)
    return low


async def saturate(
    url: str,
    model: str,
    profile: Profile,
    slo: Slo,
    bucket: SizeBucket,
    *,
    budget_s: float,
    rng: np.random.Generator | None = None,
    headers: Mapping[str, str] | None = None,
    clock: Clock = time.perf_counter,
    on_trial: Callable[[Trial], None] = lambda _: None,
) -> MeasuredRate:
    """The highest rate of one request size at which an engine meets an SLO.

    Args:
        url: the server's base.
        model: the served name.
        profile: where the search starts.
        slo: what must hold for its share of requests.
        bucket: the size.
        budget_s: about how long to take; the trial under way is finished.
        rng: draws arrivals and prompts.
        headers: such as authorization.
        clock: seconds, monotonic.
        on_trial: called after each trial.

    Raises:
        ClusterError: the server is gone or refuses the requests.
        EngineError: the server died.
        InputError: the budget ended before any rate was tried.
    """
    rng = rng or np.random.default_rng()
    start = clock()
    predicted = predicted_rps(profile, bucket, slo)
    tries = search(predicted or _alone_rps(profile, bucket))
    rate, best, sent = next(tries), 0.0, 0
    while True:
        requests = round(rate * budget_s / TRIALS_PLANNED)
        requests = min(max(requests, LEAST_REQUESTS), MOST_REQUESTS)
        if requests / rate > budget_s - (clock() - start):
            break
        share = await _attainment(url, model, rate, requests, bucket, slo, rng, headers)
        sent += requests
        met = share >= slo.attainment
        best = max(best, rate) if met else best
        on_trial(Trial(bucket, rate, requests, share))
        try:
            rate = tries.send(met)
        except StopIteration:
            break
    if not sent:
        raise InputError(
            f"{bucket.key}: {budget_s:.0f} s are too few for {LEAST_REQUESTS} requests at "
            f"{rate:.2g} per second; raise --budget-minutes"
        )
    return MeasuredRate(
        input_tokens=bucket.input_tokens,
        output_tokens=bucket.output_tokens,
        slo=slo,
        rate_rps=best,
        predicted_rps=predicted,
        requests=sent,
    )


def saturate_all(
    url: str,
    model: str,
    profile: Profile,
    slo: Slo,
    buckets: Sequence[SizeBucket],
    *,
    budget_s: float,
    headers: Mapping[str, str] | None = None,
    on_trial: Callable[[Trial], None] = lambda _: None,
) -> Profile:
    """The profile with the measured rate of each size; the budget is shared out evenly."""

    async def run() -> tuple[MeasuredRate, ...]:
        each_s = budget_s / len(buckets)
        return tuple(
            [
                await saturate(
                    url, model, profile, slo, bucket, budget_s=each_s, headers=headers,
                    on_trial=on_trial,
                )
                for bucket in buckets
            ]
        )  # fmt: skip

    return profile.model_copy(update={"rates": asyncio.run(run())})


async def _attainment(
    url: str,
    model: str,
    rate_rps: float,
    requests: int,
    bucket: SizeBucket,
    slo: Slo,
    rng: np.random.Generator,
    headers: Mapping[str, str] | None,
) -> float:
    """The share of Poisson arrivals that met both targets; shed ones did not."""
    arrivals = np.cumsum(rng.exponential(1 / rate_rps, requests))
    trace = Trace(
        arrival_s=arrivals - arrivals[0],
        input_tokens=np.full(requests, round(bucket.input_tokens)),
        output_tokens=np.full(requests, round(bucket.output_tokens)),
        source="saturation",
    )
    timings = await replay(url, model, trace, rng=rng, headers=headers)
    for timing in timings:
        if timing.outcome not in (Outcome.OVERLOADED, Outcome.TIMEOUT):
            raise_for(timing, url)
    return sum(t.meets(slo.ttft_s, slo.tpot_s) for t in timings) / requests
