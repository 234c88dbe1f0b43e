"""Workloads: how many requests of which size arrive per second, from a trace or a distribution."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from profiler.core import BucketRate, Count, Noun, SizeBucket, Workload
from profiler.errors import InputError
from profiler.sizes import Sizes, TokenDistribution, resolve_sizes, whole_tokens
from profiler.traces import Trace

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Edges = Annotated[tuple[Count, ...], Field(min_length=1)]

PlanFor = Literal["mean", "p50", "p90", "p95", "p99", "max"]
"""Which request rate to plan for: the trace's mean, or this quantile over its windows."""

WINDOW_S = 60.0
MIN_WINDOWS = 10
MAX_WINDOWS = 10_000_000
_QUADRATURE_POINTS = 1 << 14


class SizeGrid(Noun):
    """Upper edges of the size buckets, in tokens, rising; the first range starts above 0."""

    input_edges: Edges
    output_edges: Edges

    @model_validator(mode="after")
    def _rising(self) -> Self:
        for name in ("input_edges", "output_edges"):
            edges = getattr(self, name)
            if list(edges) != sorted(set(edges)):
                raise ValueError(f"{name} must rise, found {list(edges)}")
        return self

    def covering(self, input_tokens: int, output_tokens: int) -> SizeGrid:
        """The grid, its last edges doubled as often as a request of that size needs."""
        return SizeGrid(
            input_edges=_extended(self.input_edges, input_tokens),
            output_edges=_extended(self.output_edges, output_tokens),
        )


def _extended(edges: tuple[int, ...], largest: int) -> tuple[int, ...]:
    while edges[-1] < largest:
        edges = (*edges, 2 * edges[-1])
    return edges


DEFAULT_GRID = SizeGrid(
    # steps of the square root of two, to 131,072
    input_edges=tuple(round(64 * 2 ** (k / 2)) for k in range(23)),
    output_edges=tuple(16 * 2**k for k in range(11)),  # doublings, to 16,384
)
"""Finer over inputs, which decide the time to the first token, than over outputs."""


def workload_from_trace(
    trace: Trace, grid: SizeGrid = DEFAULT_GRID, plan_for: PlanFor = "p95"
) -> Workload:
    """Count a trace into size buckets, each with its share of the rate planned for.

    A bucket's sizes are the means of its requests. Requests beyond the grid's last edge get
    further buckets, each twice as wide as the one before; none is left out.

    Raises:
        InputError: all requests arrive at one moment, the rate planned for is zero, or the trace
            lasts more than 19 years.
    """
    mean_rate_rps = trace.mean_rate_rps
    planned_rate_rps = mean_rate_rps if plan_for == "mean" else _window_quantile(trace, plan_for)
    if planned_rate_rps <= 0:
        raise InputError(
            f"{trace.source}: the {plan_for} request rate is 0, since most windows are empty; "
            "plan for 'mean' or 'max'"
        )
    grid = grid.covering(int(trace.input_tokens.max()), int(trace.output_tokens.max()))
    rows = np.searchsorted(grid.input_edges, trace.input_tokens)
    columns = np.searchsorted(grid.output_edges, trace.output_tokens)
    width = len(grid.output_edges)
    cells = rows * width + columns
    shape, size = (len(grid.input_edges), width), len(grid.input_edges) * width
    requests = np.bincount(cells, minlength=size).reshape(shape)
    inputs = np.bincount(cells, weights=trace.input_tokens, minlength=size).reshape(shape)
    outputs = np.bincount(cells, weights=trace.output_tokens, minlength=size).reshape(shape)
    return Workload(
        rates=_bucket_rates(grid, requests, inputs, outputs, planned_rate_rps),
        mean_rate_rps=mean_rate_rps,
        planned_rate_rps=planned_rate_rps,
        arrival_cv=trace.arrival_cv,
        source=trace.source,
    )


def workload_from_sizes(
    rate_rps: float,
    sizes: Sizes,
    *,
    grid: SizeGrid = DEFAULT_GRID,
    mean_rate_rps: float | None = None,
    arrival_cv: float = 1.0,
    source: str | None = None,
) -> Workload:
    """The workload of a rate to plan for and a size distribution, with no trace.

    The joint distribution is summed over the grid at fixed points, so nothing is drawn at random.
    ``mean_rate_rps`` is ``rate_rps`` unless given; a CV of 1 is that of Poisson arrivals.

    Raises:
        InputError: the rate is not above 0.
        UnknownNameError: ``sizes`` is a name that is not known.
    """
    if not (math.isfinite(rate_rps) and rate_rps > 0):
        raise InputError(f"request rate: found {rate_rps}, expected a number above 0")
    joint = resolve_sizes(sizes)
    shares = joint.copula_shares
    k = len(shares)
    u = (np.arange(_QUADRATURE_POINTS * k) + 0.5) / (_QUADRATURE_POINTS * k)
    largest = [int(whole_tokens(d, u).max()) for d in (joint.input_tokens, joint.output_tokens)]
    grid = grid.covering(*largest)
    in_mass, in_tokens = _bands(joint.input_tokens, grid.input_edges, u, k)
    out_mass, out_tokens = _bands(joint.output_tokens, grid.output_edges, u, k)
    label = sizes if isinstance(sizes, str) else "given sizes"
    return Workload(
        rates=_bucket_rates(
            grid,
            in_mass @ shares @ out_mass.T,
            in_tokens @ shares @ out_mass.T,
            in_mass @ shares @ out_tokens.T,
            rate_rps,
        ),
        mean_rate_rps=rate_rps if mean_rate_rps is None else mean_rate_rps,
        planned_rate_rps=rate_rps,
        arrival_cv=arrival_cv,
        source=source or f"{label} at {rate_rps:g} requests/s",
    )


def _bands(
    distribution: TokenDistribution, edges: tuple[int, ...], u: Floats, k: int
) -> tuple[Floats, Floats]:
    """(edges, k) share and mean tokens of each copula band that lie in each range of tokens."""
    tokens = whole_tokens(distribution, u)
    cell = np.searchsorted(edges, tokens) * k + (u * k).astype(np.int64)
    per_band, size = len(u) / k, len(edges) * k
    mass = np.bincount(cell, minlength=size) / per_band
    weighted = np.bincount(cell, weights=tokens, minlength=size) / per_band
    return mass.reshape(-1, k), weighted.reshape(-1, k)


def _bucket_rates(
    grid: SizeGrid,
    mass: npt.NDArray[Any],
    inputs: npt.NDArray[Any],
    outputs: npt.NDArray[Any],
    total_rps: float,
) -> tuple[BucketRate, ...]:
    """Buckets with any mass, smallest first, their rates summing to ``total_rps`` exactly."""
    rows, columns = np.nonzero(mass)
    rates = [float(m) for m in mass[rows, columns] / mass.sum() * total_rps]
    # rounding leaves a last bit over: the largest bucket takes it, and what is finer than that
    # bucket's own last bit goes to the smallest
    for index in (int(np.argmax(rates)), int(np.argmin(rates))):
        rates[index] += math.fsum([total_rps, *(-rate for rate in rates)])
    low_in, low_out = (0, *grid.input_edges), (0, *grid.output_edges)
    return tuple(
        BucketRate(
            bucket=SizeBucket(
                input_range=(low_in[i], grid.input_edges[i]),
                output_range=(low_out[j], grid.output_edges[j]),
                # rounding could put the mean of equal sizes a last bit above the edge
                input_tokens=min(float(inputs[i, j] / mass[i, j]), grid.input_edges[i]),
                output_tokens=min(float(outputs[i, j] / mass[i, j]), grid.output_edges[j]),
            ),
            rate_rps=rate,
        )
        for i, j, rate in zip(rows.tolist(), columns.tolist(), rates, strict=True)
    )


def window_rates_rps(trace: Trace) -> Floats:
    """Request rate in each whole one-minute window of a trace.

    A trace under ten minutes is cut into ten windows instead, since a quantile of fewer says
    little. What is left after the last whole window does not count: it would look like a lull.

    Raises:
        InputError: all requests arrive at one moment, or the trace lasts more than 19 years.
    """
    trace.require_duration()
    window_s = min(WINDOW_S, trace.duration_s / MIN_WINDOWS)
    windows = int(trace.duration_s / window_s + 1e-9)
    if windows > MAX_WINDOWS:
        raise InputError(
            f"{trace.source}: the trace lasts {trace.duration_s:.3g} s, expected at most "
            f"{MAX_WINDOWS * WINDOW_S:.3g} s; are its times in seconds, and all from one clock?"
        )
    edges = np.arange(windows + 1) * window_s
    counts = np.diff(np.searchsorted(trace.arrival_s, edges))
    return counts / window_s


def _window_quantile(trace: Trace, plan_for: PlanFor) -> float:
    if plan_for not in get_args(PlanFor):
        raise InputError(f"plan for: found {plan_for!r}, expected {', '.join(get_args(PlanFor))}")
    share = 1.0 if plan_for == "max" else float(plan_for.removeprefix("p")) / 100
    return float(np.quantile(window_rates_rps(trace), share))
