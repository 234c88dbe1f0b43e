"""What is asked of a simulated fleet: the requests of one trace, or of one trace a stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.simulator import Arrivals, Floats, Ints, checked_arrays
from placement.plan import AUTO, Plan, Route
from profiler.errors import InputError

ELSEWHERE = "none"
"""Bucket of requests whose stream the plan has no route for."""


@dataclass(frozen=True)
class Load:
    """Requests in order of arrival; all arrays have one entry each.

    ``stream`` indexes ``streams``: what the requests name as their model, ``auto`` or a model.
    """

    arrival_s: Floats
    input_tokens: Ints
    output_tokens: Ints
    prefix_hit_tokens: Ints
    stream: Ints
    streams: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.arrival_s)


def load_of(plan: Plan, traces: Arrivals | Mapping[str, Arrivals]) -> Load:
    """The requests of a trace, or of several merged by time, each the traffic of its stream.

    A trace alone is the plan's one stream. A trace's ``prefix_hit_tokens`` are used where it has
    them.

    Raises:
        InputError: the plan has several streams and one trace does not say which it is, or a
            trace is not in order; see `orchestrator.simulator.checked_arrays`.
    """
    by_stream = traces if isinstance(traces, Mapping) else {_only_stream(plan): traces}
    parts = [
        checked_arrays(
            trace.arrival_s,
            trace.input_tokens,
            trace.output_tokens,
            getattr(trace, "prefix_hit_tokens", None),
        )
        for trace in by_stream.values()
    ]
    owner = np.repeat(np.arange(len(parts)), [len(p[0]) for p in parts])
    arrival_s, inputs, outputs, hits = (np.concatenate(c) for c in zip(*parts, strict=True))
    if len(parts) > 1:
        order = np.argsort(arrival_s, kind="stable")
        arrival_s, owner = arrival_s[order], owner[order]
        inputs, outputs, hits = inputs[order], outputs[order], hits[order]
    return Load(arrival_s, inputs, outputs, hits, owner, tuple(by_stream))


def buckets_of(plan: Plan, load: Load) -> tuple[Ints, list[tuple[str, str]]]:
    """The plan's class of each request by its true sizes: an index into (stream, bucket key)."""
    names: list[tuple[str, str]] = []
    found = np.zeros(len(load), dtype=np.int64)
    for s, stream in enumerate(load.streams):
        rows = np.flatnonzero(load.stream == s)
        # One of each size: a trace does not tell how difficult a request is.
        routes = list({r.bucket.key: r for r in plan.routes if r.stream == stream}.values())
        if routes:
            found[rows] = len(names) + _nearest_route(
                routes, load.input_tokens[rows], load.output_tokens[rows]
            )
            names += [(stream, r.bucket.key) for r in routes]
        else:
            found[rows] = len(names)
            names.append((stream, ELSEWHERE))
    return found, names


def outside(value: Ints, low_high: tuple[int, int]) -> Ints:
    """How far each value lies outside a (low, high] range of integers."""
    low, high = low_high
    far: Ints = np.maximum(np.maximum(low + 1 - value, value - high), 0)
    return far


def _nearest_route(routes: list[Route], inputs: Ints, outputs: Ints) -> NDArray[np.intp]:
    """Nearest by input first, then by output."""
    if not len(inputs):
        return np.zeros(0, dtype=np.intp)
    base = int(outputs.max()) + 1
    keys, place = np.unique(inputs * base + outputs, return_inverse=True)  # many are alike
    inputs, outputs = keys // base, keys % base
    best = np.zeros(len(inputs), dtype=np.intp)
    least = np.full((2, len(inputs)), np.iinfo(np.int64).max)
    for k, route in enumerate(routes):
        far = outside(inputs, route.bucket.input_range)
        too = outside(outputs, route.bucket.output_range)
        nearer = (far < least[0]) | ((far == least[0]) & (too < least[1]))
        best[nearer] = k
        least[0][nearer], least[1][nearer] = far[nearer], too[nearer]
    return best[place]


def _only_stream(plan: Plan) -> str:
    routed = sorted({r.stream for r in plan.routes})
    streams = routed or sorted(plan.models)
    if len(streams) == 1:
        return streams[0]
    if AUTO in streams and not routed:
        return AUTO
    raise InputError(
        f"the plan {plan.service!r} has {len(streams)} streams ({', '.join(streams)}), found one "
        "trace; say which stream each trace is"
    )
