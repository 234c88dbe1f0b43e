"""Traces made from an arrival process and a size distribution, the same for the same seed."""

from __future__ import annotations

import math

import numpy as np

from profiler.arrivals import Arrivals
from profiler.errors import InputError
from profiler.size_fit import fit_arrivals, fit_sizes
from profiler.sizes import SizeDistribution, Sizes, builtin_sizes, resolve_sizes
from profiler.traces import Trace

__all__ = [
    "Arrivals",
    "SizeDistribution",
    "Sizes",
    "builtin_sizes",
    "fit_arrivals",
    "fit_sizes",
    "generate",
]

MAX_REQUESTS = 50_000_000
_DECIMALS = 6


def generate(
    arrivals: Arrivals,
    sizes: Sizes,
    duration_s: float,
    seed: int | np.random.Generator = 0,
    source: str | None = None,
) -> Trace:
    """A trace whose first request arrives at 0 and whose process runs from there.

    Arrival times are whole microseconds. The sizes drawn do not depend on the arrivals.

    Raises:
        InputError: the duration is not above 0, or more than 50 million requests are expected.
        UnknownNameError: ``sizes`` is a name that is not known.
    """
    if not (math.isfinite(duration_s) and duration_s > 0):
        raise InputError(f"duration: found {duration_s}, expected seconds above 0")
    expected = arrivals.expected_requests(duration_s)
    if expected > MAX_REQUESTS:
        raise InputError(
            f"{duration_s:g} s of {arrivals.kind} arrivals are about {expected:.3g} requests, "
            f"expected at most {MAX_REQUESTS:,}; lower the rate or the duration"
        )
    rng = np.random.default_rng(seed)
    times = np.round(arrivals.arrival_times(duration_s, rng), _DECIMALS)
    arrival_s = np.concatenate([[0.0], times])
    input_tokens, output_tokens = resolve_sizes(sizes).sample(len(arrival_s), rng)
    label = sizes if isinstance(sizes, str) else "given sizes"
    return Trace(
        arrival_s=arrival_s,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        source=source or f"generated: {arrivals.kind} arrivals, {label}, {duration_s:g} s",
    )
