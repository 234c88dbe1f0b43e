"""The loads of the burst benchmark: real traces at many rates, and spikes on top of them.

Chat traces are scaled by superposing shifted copies, which keeps the duration and smooths; code
is scaled by compressing time, which keeps the requests and sharpens each burst.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.router_tasks import DATA
from profiler.traces import ScaleHow, Trace, read_trace

TRACES = DATA.parent / "traces"
TUNED_SHARE = 0.4
"""The first part of each trace is for tuning and sizes, the rest for the test."""
BASE, SPIKE_AT_S, SPIKE_S, AFTER_S = 0.6, 90.0, 60.0, 210.0
"""A spike: over so much of capacity, from when, how long, and what follows it."""


@dataclass(frozen=True)
class Source:
    """One real trace and how it is scaled."""

    name: str
    file: str
    how: ScaleHow


SOURCES = {
    "chat": Source("chat", "azure2023_conv.csv.gz", "superpose"),
    "code": Source("code", "azure2023_code_first_half.csv.gz", "compress"),
    "long": Source("long", "mooncake_conversation.csv.gz", "superpose"),
}


@dataclass(frozen=True)
class Scenario:
    """What is asked of the fleet: a multiple of the large model's capacity, or a spike."""

    source: str
    multiple: float
    spike: float | None = None
    span_s: float = 240.0

    @property
    def name(self) -> str:
        """For tables."""
        if self.spike is not None:
            return f"{self.source} spike x{self.spike:g}"
        return f"{self.source} x{self.multiple:g}"

    @property
    def burst_end_s(self) -> float | None:
        """When the spike is over."""
        return None if self.spike is None else SPIKE_AT_S + SPIKE_S


def part_of(source: str, *, tuning: bool) -> Trace:
    """The part of a trace that may be tuned on, or the part for the test."""
    spec = SOURCES[source]
    trace = read_trace(TRACES / spec.file)
    if source == "long":  # quantised to 3 s where it was logged
        rng = np.random.default_rng(0)
        jitter = trace.arrival_s + rng.uniform(0, 3, len(trace))
        trace = trace.picked(np.arange(len(trace)), trace.source, jitter)
    cut_s = TUNED_SHARE * trace.duration_s
    return trace.slice(0, cut_s) if tuning else trace.slice(cut_s, trace.duration_s)


def load_of(scenario: Scenario, part: Trace, capacity_rps: float, seed: int) -> Trace:
    """The requests of a scenario, ``seed`` says from where in the trace and which copies."""
    rng = np.random.default_rng([seed, 77])
    if scenario.spike is None:
        rate = scenario.multiple * capacity_rps
        return _at_rate(part, SOURCES[scenario.source].how, rate, scenario.span_s, rng)
    rate = scenario.multiple * capacity_rps
    whole_s = SPIKE_AT_S + SPIKE_S + AFTER_S
    calm = _at_rate(part, "superpose", rate, whole_s, rng)
    more = _at_rate(part, "superpose", (scenario.spike - 1) * rate, SPIKE_S, rng)
    arrival_s = np.concatenate([calm.arrival_s, SPIKE_AT_S + more.arrival_s])
    order = np.argsort(arrival_s, kind="stable")
    return Trace(
        arrival_s=arrival_s[order],
        input_tokens=np.concatenate([calm.input_tokens, more.input_tokens])[order],
        output_tokens=np.concatenate([calm.output_tokens, more.output_tokens])[order],
        source=scenario.name,
    )


def _at_rate(
    part: Trace, how: ScaleHow, rate_rps: float, span_s: float, rng: np.random.Generator
) -> Trace:
    """A span of the trace at a mean rate over the trace (the span's own varies as it does)."""
    factor = rate_rps / part.mean_rate_rps
    if how == "superpose":
        return _span(part.scaled(factor, how, int(rng.integers(2**31))), span_s, rng)
    long_enough = -(-span_s * factor // part.duration_s)
    return _span(_looped(part, int(long_enough) + 1).scaled(factor, "compress"), span_s, rng)


def _span(trace: Trace, span_s: float, rng: np.random.Generator) -> Trace:
    """From anywhere in the trace; a span in which nobody asks anything is drawn again."""
    while True:
        start_s = rng.uniform(0, max(trace.duration_s - span_s, 0.0))
        first, end = np.searchsorted(trace.arrival_s, (start_s, start_s + span_s))
        if first < end:
            return trace.slice(start_s, start_s + span_s)


def _looped(part: Trace, times: int) -> Trace:
    """The trace again and again, where a fast replay needs more than there is."""
    rows = np.tile(np.arange(len(part)), times)
    shift = np.repeat(np.arange(times) * (part.duration_s + 1.0), len(part))
    return part.picked(rows, part.source, np.tile(part.arrival_s, times) + shift)
