"""The chance that an answer meets its SLO, from what is predicted when it is placed."""

from __future__ import annotations

import math

from profiler.core import Slo

SHARPNESS = 2.0
"""A prediction of half the time allowed comes true in three cases of four: waits are sums of
chances, and the nearer to the limit, the fewer keep it."""


def in_time(ttft_s: float, output_tokens: float, slo: Slo) -> float:
    """Chance of first token and pace inside the SLO, from 0 to 1.

    ``ttft_s`` is predicted, queue included. It measures the prompts under way as well, and each
    of them stalls the answers beside it: one of n tokens affords n x TPOT limit of stalls.
    With lengths spread exponentially about their mean, the share of answers too short for a
    stall of ttft_s is 1 - exp(-ttft_s / (mean x TPOT limit)).
    """
    if not ttft_s < slo.ttft_s:
        return 0.0
    soon: float = 1.0 - (ttft_s / slo.ttft_s) ** SHARPNESS
    return soon * math.exp(-ttft_s / (max(output_tokens, 1.0) * slo.tpot_s))
