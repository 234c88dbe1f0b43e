"""Replicas simulated one engine step at a time: what requests would wait, told from a profile.

This is the plain form, meant to be read and trusted: every engine step of every replica
(`profiler.emulated.replica`) is a turn of one loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from profiler.core import Profile, Slo
from profiler.emulated.replica import Replica, Request, StepObserver
from profiler.errors import InputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Arrivals(Protocol):
    """Requests in order of arrival; a trace is one."""

    @property
    def arrival_s(self) -> Floats:
        """Seconds from the start, never decreasing, one per request."""

    @property
    def input_tokens(self) -> Ints:
        """Prompt tokens, at least 1."""

    @property
    def output_tokens(self) -> Ints:
        """Tokens to generate, at least 1."""


@dataclass(frozen=True)
class Timings:
    """When each request was answered; all arrays have one entry per arrival, in trace order.

    A rejected request, which no replica could ever hold, has infinite times, so it counts
    against every percentile and every target.
    """

    arrival_s: Floats
    first_token_s: Floats
    finish_s: Floats
    output_tokens: Ints
    rejected: NDArray[np.bool_]
    replica: Ints = field(repr=False)
    preemptions: Ints = field(repr=False)

    @property
    def ttft_s(self) -> Floats:
        """Arrival to first token."""
        return self.first_token_s - self.arrival_s

    @property
    def tpot_s(self) -> Floats:
        """(last token - first token) / (output tokens - 1); NaN where one token was asked."""
        gaps = np.where(self.output_tokens > 1, self.output_tokens - 1, np.nan)
        decoding = np.full_like(self.finish_s, np.inf)
        np.subtract(self.finish_s, self.first_token_s, out=decoding, where=~self.rejected)
        return np.asarray(decoding / gaps, dtype=np.float64)

    @property
    def e2e_s(self) -> Floats:
        """Arrival to last token."""
        return self.finish_s - self.arrival_s


def attainment(timings: Timings, slo: Slo) -> float:
    """The share of all arrivals, rejected ones included, that meet both targets.

    A one-token answer has no TPOT and is judged by TTFT alone. No arrivals: 1.0.
    """
    if len(timings.arrival_s) == 0:
        return 1.0
    tpot_met = np.isnan(timings.tpot_s) | (timings.tpot_s <= slo.tpot_s)
    return float(np.mean((timings.ttft_s <= slo.ttft_s) & tpot_met & ~timings.rejected))


def percentile(values: Floats, percent: float) -> float:
    """The smallest value that ``percent`` % of the requests do not exceed; NaNs are left out.

    Never interpolates, so a rejected request (infinite) cannot blur into a finite figure.
    NaN when nothing is left.
    """
    known = values[~np.isnan(values)]
    return float(np.percentile(known, percent, method="inverted_cdf")) if len(known) else np.nan


def simulate_replica(
    profile: Profile,
    arrival_s: ArrayLike,
    input_tokens: ArrayLike,
    output_tokens: ArrayLike,
    *,
    prefix_hit_tokens: ArrayLike | None = None,
    on_step: StepObserver | None = None,
) -> Timings:
    """Answer all requests with one replica.

    Raises:
        InputError: arrays differ in length, arrivals go back in time, or a size is below 1.
    """
    return simulate_group(
        profile,
        1,
        arrival_s,
        input_tokens,
        output_tokens,
        prefix_hit_tokens=prefix_hit_tokens,
        on_step=on_step,
    )


def simulate_trace(
    profile: Profile,
    trace: Arrivals,
    *,
    replicas: int = 1,
    on_step: StepObserver | None = None,
) -> Timings:
    """`simulate_group` for a trace object.

    Raises:
        InputError: as `simulate_replica`, or ``replicas`` is below 1.
    """
    return simulate_group(
        profile,
        replicas,
        trace.arrival_s,
        trace.input_tokens,
        trace.output_tokens,
        prefix_hit_tokens=getattr(trace, "prefix_hit_tokens", None),
        on_step=on_step,
    )


def simulate_group(
    profile: Profile,
    replicas: int,
    arrival_s: ArrayLike,
    input_tokens: ArrayLike,
    output_tokens: ArrayLike,
    *,
    prefix_hit_tokens: ArrayLike | None = None,
    on_step: StepObserver | None = None,
) -> Timings:
    """Answer all requests with equal replicas; each goes to the one with fewest in flight.

    Raises:
        InputError: as `simulate_replica`, or ``replicas`` is below 1.
    """
    if replicas < 1:
        raise InputError(f"found {replicas} replicas to simulate, expected at least 1")
    arrivals, inputs, outputs, hits = checked_arrays(
        arrival_s, input_tokens, output_tokens, prefix_hit_tokens
    )
    fleet = [Replica(profile, i, on_step) for i in range(replicas)]
    requests = [
        Request(*row)
        for row in zip(
            arrivals.tolist(), inputs.tolist(), outputs.tolist(), hits.tolist(), strict=True
        )
    ]
    for request in requests:
        if not fleet[0].can_ever_hold(request):
            continue
        for replica in fleet:
            replica.advance(request.arrival_s)
        chosen = min(fleet, key=lambda r: (r.in_flight(request.arrival_s), r.index))
        chosen.submit(request)
    for replica in fleet:
        replica.advance(float("inf"))
    return _timings(arrivals, outputs, requests, profile.request_overhead_s)


def checked_arrays(
    arrival_s: ArrayLike,
    input_tokens: ArrayLike,
    output_tokens: ArrayLike,
    prefix_hit_tokens: ArrayLike | None = None,
) -> tuple[Floats, Ints, Ints, Ints]:
    """Arrivals, input, output and prefix-hit tokens (0 without any) as arrays of equal length.

    Raises:
        InputError: they differ in length, arrivals go back in time, or a size is too small.
    """
    arrivals = np.asarray(arrival_s, dtype=np.float64)
    inputs = np.asarray(input_tokens, dtype=np.int64)
    outputs = np.asarray(output_tokens, dtype=np.int64)
    hits = np.zeros_like(inputs) if prefix_hit_tokens is None else prefix_hit_tokens
    hits = np.asarray(hits, dtype=np.int64)
    if not len(arrivals) == len(inputs) == len(outputs):
        raise InputError(
            f"found {len(arrivals)} arrivals, {len(inputs)} input and {len(outputs)} output "
            "sizes, expected one of each per request"
        )
    if len(hits) != len(inputs):
        raise InputError(
            f"found {len(hits)} prefix-hit sizes for {len(inputs)} requests, expected one of each"
        )
    if (hits < 0).any():
        i = np.flatnonzero(hits < 0)[0]
        raise InputError(f"request {i}: found {hits[i]} prefix-hit tokens, expected 0 or more")
    late = np.flatnonzero(~(np.diff(arrivals, prepend=0.0) >= 0) | ~np.isfinite(arrivals))
    if len(late):
        raise InputError(
            f"request {late[0]}: found arrival {arrivals[late[0]]} s, expected a time not "
            "before the one ahead of it; sort the trace by arrival"
        )
    empty = np.flatnonzero((inputs < 1) | (outputs < 1))
    if len(empty):
        i = empty[0]
        raise InputError(
            f"request {i}: found {inputs[i]} input and {outputs[i]} output tokens, "
            "expected at least 1 of each"
        )
    return arrivals, inputs, outputs, hits


def _timings(
    arrivals: Floats, outputs: Ints, requests: Sequence[Request], overhead_s: float
) -> Timings:
    return Timings(
        arrival_s=arrivals,
        first_token_s=np.array([r.first_token_s for r in requests], dtype=np.float64) + overhead_s,
        finish_s=np.array([r.finish_s for r in requests], dtype=np.float64) + overhead_s,
        output_tokens=outputs,
        rejected=np.array([r.replica < 0 for r in requests], dtype=np.bool_),
        replica=np.array([r.replica for r in requests], dtype=np.int64),
        preemptions=np.array([r.preemptions for r in requests], dtype=np.int64),
    )
