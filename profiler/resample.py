"""A trace's traffic drawn anew: other arrivals with the same rate curve, bursts and sizes.

A block bootstrap within windows (Kuensch 1989; kept to a neighbourhood as in Paparoditis and
Politis 2002). Time is cut into windows. Each, taken to be a circle, is turned by a random angle and
cut into arcs, which are put back in random order: bursts up to an arc's length stay, silences of a
window and longer stay where they are, and the rate in every window is exactly the trace's. The
requests that arrive then are drawn from those of the window with replacement, whole (input, output,
prefix hits, label) and in stretches, so that sizes that come together go on doing so.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from profiler.errors import InputError
from profiler.traces import Trace

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

WINDOW_S = 60.0
MIN_WINDOWS = 10
ARCS = 6
"""Arcs, and stretches of requests, in a window: ten seconds each in one of a minute."""


def resample(trace: Trace, seed: int | np.random.Generator, *, rate_factor: float = 1.0) -> Trace:
    """Other traffic of the same kind, the same for the same seed.

    With ``rate_factor`` f it is that of f times as many independent users: f drawn anew and laid
    over each other, the fractional one thinned at random.

    Raises:
        InputError: the trace has no duration, the factor is not above 0, or nothing is left.
    """
    trace.require_duration()
    if not (np.isfinite(rate_factor) and rate_factor > 0):
        raise InputError(f"rate factor: found {rate_factor}, expected a number above 0")
    rng = np.random.default_rng(seed)
    whole, fraction = divmod(rate_factor, 1.0)
    rows, times = [], []
    for share in [1.0] * int(whole) + [fraction] * (fraction > 0):
        drawn, at_s = _layer(trace, rng)
        stays = rng.random(len(drawn)) < share
        rows.append(drawn[stays])
        times.append(at_s[stays])
    label = "" if rate_factor == 1.0 else f", rate x{rate_factor:g}"
    source = f"{trace.source}, drawn anew{label}"
    return trace.picked(np.concatenate(rows), source, np.concatenate(times))


def window_edges_s(trace: Trace) -> Floats:
    """Edges of windows of about a minute that fill the trace evenly; at least ten windows."""
    count = max(MIN_WINDOWS, round(trace.duration_s / WINDOW_S))
    return np.linspace(0.0, np.nextafter(trace.duration_s, np.inf), count + 1)


def _layer(trace: Trace, rng: np.random.Generator) -> tuple[Ints, Floats]:
    """Rows and the times at which they arrive, ``[len(trace)]`` each."""
    edges_s = window_edges_s(trace)
    window = np.searchsorted(edges_s, trace.arrival_s, side="right") - 1
    length_s = np.diff(edges_s)[window]
    turned = (trace.arrival_s - edges_s[window]) / length_s + rng.random(len(edges_s) - 1)[window]
    arc, within = np.divmod(np.mod(turned, 1.0) * ARCS, 1.0)
    order = np.argsort(rng.random((len(edges_s) - 1, ARCS)), axis=1)
    # rounding can put a turned time on the circle's end
    place = order[window, np.minimum(arc, ARCS - 1).astype(np.int64)] + within
    at_s = np.sort(edges_s[window] + place / ARCS * length_s)
    bounds = np.searchsorted(trace.arrival_s, edges_s)
    counts = np.diff(bounds)
    drawn = [low + _stretches(n, rng) for low, n in zip(bounds[:-1], counts, strict=True)]
    return np.concatenate(drawn), at_s


def _stretches(count: int, rng: np.random.Generator) -> Ints:
    """Indices below ``count``, as many, in stretches that start at random and go round."""
    size = max(1, count // ARCS)
    starts = rng.integers(0, max(count, 1), -(-count // size))
    drawn: Ints = (starts[:, None] + np.arange(size)).ravel()[:count] % max(count, 1)
    return drawn
