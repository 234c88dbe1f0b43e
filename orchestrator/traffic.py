"""The traffic that a plan is tried against: each stream's trace, and the same drawn anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from orchestrator.loading import LoadedService, streams
from orchestrator.planning import trace_of, traces_of
from orchestrator.service import WorkloadSpec
from profiler.arrivals import PoissonArrivals
from profiler.errors import InputError
from profiler.generator import generate
from profiler.resample import resample
from profiler.traces import Trace

MAX_REQUESTS = 500_000
"""Of longer traffic the busiest stretch of so many requests is tried."""

LEAST_S = 60.0
"""Seconds of traffic below which trying it tells nothing: queues have no time to grow."""

OF_A_RATE = 20_000
"""Requests generated where only a rate is given; at least ten minutes, at most a day."""


class TooFastError(InputError):
    """A rate so high that the requests that can be tried are over in no time."""


@dataclass(frozen=True)
class Traffic:
    """One stream's requests: the trace itself, and how to draw it anew from a seed."""

    trace: Trace
    again: Callable[[int], Trace]


def traffic_of(
    loaded: LoadedService, traces: Mapping[str, Trace] | None = None
) -> dict[str, Traffic]:
    """The traffic of every stream, at the rate that its workload is planned for.

    ``traces`` are those of `orchestrator.planning.traces_of`, where they have been read already.
    A bare rate becomes Poisson arrivals.

    Raises:
        InputError: a trace is missing, empty or malformed.
        TooFastError: a bare rate is too high to be tried.
    """
    known = traces_of(loaded) if traces is None else traces
    specs = streams(loaded.service, loaded.models)
    return {s: _traffic(spec, loaded.directory, known.get(s)) for s, spec in specs}


def _traffic(spec: WorkloadSpec, directory: Path, known: Trace | None) -> Traffic:
    if spec.rate_rps is not None:
        rate_rps = spec.rate_rps * spec.multiply_rate
        if rate_rps * LEAST_S > MAX_REQUESTS:
            raise TooFastError(
                f"{rate_rps:,.6g} requests/s are too many to simulate: {MAX_REQUESTS:,} requests, "
                f"the most that are tried, last {MAX_REQUESTS / rate_rps:.2g} s of them"
            )
        seconds = float(np.clip(OF_A_RATE / spec.rate_rps, 600.0, 86_400.0))
        spec = spec.model_copy(
            update={
                "rate_rps": None,
                "arrivals": PoissonArrivals(rate_rps=spec.rate_rps),
                "duration_s": seconds,
            }
        )
        known = None
    trace = trace_of(spec, directory) if known is None else known
    arrivals, sizes = spec.arrivals, spec.sizes
    if arrivals is None or sizes is None or spec.multiply_rate != 1.0 or len(trace) > MAX_REQUESTS:
        return of_trace(trace, spec.multiply_rate)
    return Traffic(
        trace,
        lambda seed: generate(
            arrivals, sizes, spec.duration_s, np.random.default_rng([spec.seed, 1, seed])
        ),
    )


def faster(traffic: Traffic, rate_factor: float) -> Traffic:
    """The same traffic at so many times its rate, drawn anew; itself at once its rate.

    Raises:
        InputError: the trace has no duration, or the factor leaves no request.
    """
    return traffic if rate_factor == 1.0 else of_trace(traffic.trace, rate_factor)


def of_trace(trace: Trace, rate_factor: float = 1.0) -> Traffic:
    """Traffic of a trace's kind at so many times its rate.

    Raises:
        InputError: the trace has no duration, or the factor leaves no request.
    """
    trace = busiest(trace, round(MAX_REQUESTS / max(rate_factor, 1.0)))

    def again(seed: int) -> Trace:
        return resample(trace, np.random.default_rng([1, seed]), rate_factor=rate_factor)

    return Traffic(trace if rate_factor == 1.0 else again(0), again)


def busiest(trace: Trace, requests: int) -> Trace:
    """The shortest stretch of a trace that holds so many requests; all of a shorter trace."""
    if len(trace) <= requests:
        return trace
    length_s = trace.arrival_s[requests - 1 :] - trace.arrival_s[: len(trace) - requests + 1]
    start = int(np.argmin(length_s))
    return trace.picked(np.arange(start, start + requests), f"{trace.source}, busiest stretch")


def scenario(traffic: Mapping[str, Traffic], seed: int | None) -> dict[str, Trace]:
    """A trace of every stream, all about as long as the longest: shorter ones go on, drawn anew.

    Without a seed they are the traces themselves.

    Raises:
        InputError: together they hold too many requests.
    """
    longest_s = max(t.trace.duration_s for t in traffic.values())
    found = {s: _lasting(t, longest_s, seed) for s, t in traffic.items()}
    total = sum(len(t) for t in found.values())
    if total > 20 * MAX_REQUESTS:
        raise InputError(
            "the streams' traces differ so much in length that trying them together takes "
            f"{total:,} requests; give traces of about the same length"
        )
    return found


def _lasting(traffic: Traffic, seconds: float, seed: int | None) -> Trace:
    first = traffic.trace if seed is None else traffic.again(seed)
    own_s = traffic.trace.duration_s
    times = max(1, round(seconds / own_s)) if own_s > 0 else 1
    if times == 1:
        return first
    parts = [first]
    parts += [traffic.again(1_000_000 * k + (seed or 0)) for k in range(1, times)]
    hits = [p.prefix_hit_tokens for p in parts if p.prefix_hit_tokens is not None]
    return Trace(
        # drawn anew, a part may be a little longer than the trace
        arrival_s=np.sort(np.concatenate([p.arrival_s + k * own_s for k, p in enumerate(parts)])),
        input_tokens=np.concatenate([p.input_tokens for p in parts]),
        output_tokens=np.concatenate([p.output_tokens for p in parts]),
        source=f"{first.source}, {times} times",
        prefix_hit_tokens=np.concatenate(hits) if hits else None,
    )
