"""What a load policy is judged by; every share is of all arrivals, refused and unfinished ones too.

Quality is what the answers that came in time were worth: an answer that missed is worth nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.simulation.result import FleetTimings
from orchestrator.simulator import Floats
from profiler.core import Slo

WINDOW_S = 30.0
"""Attainment after a burst is a rolling mean over so long."""
HELD_S = 60.0
"""So long it has to hold before the fleet counts as recovered."""
RECOVERED = 0.95
PEAK_SHARE = 0.96
"""Of what the large model's answers to all would be worth, for time to count as near the peak."""
LEAST_IN_WINDOW = 100
"""With fewer requests, which of them the small model happened to get right decides."""

Flags = NDArray[np.bool_]


def met(timings: FleetTimings, slo: Slo) -> Flags:
    """Who got first token and pace inside the SLO; one-token answers are judged by TTFT alone."""
    pace = np.isnan(timings.tpot_s) | (timings.tpot_s <= slo.tpot_s)
    found: Flags = (timings.ttft_s <= slo.ttft_s) & pace & ~timings.rejected
    return found


def answered(timings: FleetTimings, slo: Slo) -> Flags:
    """Who got the whole answer, by whichever model, before TTFT limit + tokens x TPOT limit."""
    deadline_s = slo.ttft_s + slo.tpot_s * np.maximum(timings.output_tokens - 1, 0)
    found: Flags = (timings.e2e_s <= deadline_s) & ~timings.rejected
    return found


def recovery_s(
    arrival_s: Floats, good: Flags, burst_end_s: float, until_s: float | None = None
) -> float:
    """Seconds from the end of a burst until service is back; infinite where it never is.

    Back is the first moment from which the share of good requests among the arrivals of the last
    `WINDOW_S` is at least `RECOVERED` for `HELD_S` on end. Windows without arrivals count as
    good. Looked at once a second up to ``until_s``, the last arrival unless told.
    """
    last_s = float(arrival_s[-1]) if until_s is None else until_s
    at_s = burst_end_s + np.arange(0.0, max(last_s - burst_end_s, 0.0) + 1e-9)
    before = np.concatenate([[0], np.cumsum(good)])
    low = np.searchsorted(arrival_s, at_s - WINDOW_S, side="right")
    high = np.searchsorted(arrival_s, at_s, side="right")
    count = high - low
    share = np.where(count > 0, (before[high] - before[low]) / np.maximum(count, 1), 1.0)
    held = 0
    for k, fine in enumerate(share >= RECOVERED):
        held = held + 1 if fine else 0
        if held > HELD_S:
            return float(k + 1 - held)
    return np.inf


def near_peak(arrival_s: Floats, gained: Floats, large: Floats) -> float:
    """Share of time in which quality was at least `PEAK_SHARE` of the large model's for all.

    Time is cut every `WINDOW_S` seconds, and each piece joined with those that follow it until
    they hold `LEAST_IN_WINDOW` arrivals; what is left at the end joins the last. ``gained`` is
    each request's score if it came in time, else 0; ``large`` the large model's, however slow.
    """
    pieces = int(arrival_s[-1] // WINDOW_S) + 1
    piece = np.minimum((arrival_s // WINDOW_S).astype(np.int64), pieces - 1)
    count, ours, peak = (np.bincount(piece, w, pieces) for w in (None, gained, large))
    ends: list[int] = []
    held = 0
    for k, arrivals in enumerate(count.tolist()):
        held += arrivals
        if held >= LEAST_IN_WINDOW:
            ends.append(k + 1)
            held = 0
    ends = [*ends[:-1], pieces] if ends else [pieces]
    starts = [0, *ends[:-1]]
    good = np.add.reduceat(ours, starts) >= PEAK_SHARE * np.add.reduceat(peak, starts)
    return float(np.diff([0, *ends]) @ good / pieces)


@dataclass(frozen=True)
class Measures:
    """One policy on one trace.

    ``quality_share`` sums the scores of answers in time, over what the large model would score
    on every arrival, however slow; ``earned_share`` counts only what met the SLO.
    ``goodput_rps`` counts requests inside the SLO. ``mix`` is the share of all arrivals that
    each model answered. ``near_peak`` is the share of time near the peak, see `near_peak`.
    """

    attainment: float
    availability: float
    goodput_rps: float
    quality_share: float
    earned_share: float
    quality_per_gpu_hour: float
    near_peak: float
    recovery_s: float
    mix: tuple[float, ...]


def measure(
    timings: FleetTimings,
    slo: Slo,
    *,
    scores: Floats,
    model_of_group: NDArray[np.int64],
    gpus: int,
    burst_end_s: float | None = None,
) -> Measures:
    """Judge a run.

    ``scores`` is ``[requests, models]``, the large model first; ``model_of_group`` gives the
    column of each of the plan's groups. Recovery is NaN where there was no burst.
    """
    good, told = met(timings, slo), answered(timings, slo)
    column = model_of_group[np.maximum(timings.group, 0)]
    score = scores[np.arange(len(told)), column]
    gained = np.where(told, score, 0.0)
    arrival_s = timings.arrival_s
    span_s = max(float(arrival_s[-1]), 1e-9)
    models = scores.shape[1]
    return Measures(
        attainment=float(good.mean()),
        availability=float(told.mean()),
        goodput_rps=float(good.sum() / span_s),
        quality_share=float(gained.sum() / scores[:, 0].sum()),
        earned_share=float(score[good].sum() / scores[:, 0].sum()),
        quality_per_gpu_hour=float(gained.sum() / (gpus * span_s / 3600)),
        near_peak=near_peak(arrival_s, gained, scores[:, 0]),
        recovery_s=np.nan if burst_end_s is None else recovery_s(arrival_s, good, burst_end_s),
        mix=tuple(float((told & (column == m)).mean()) for m in range(models)),
    )
