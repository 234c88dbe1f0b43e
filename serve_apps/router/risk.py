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


LONE_SLACK = 2.0
"""A first token may take so many times what it takes on an idle engine, if that is longer."""
SIDES = 2.0
"""Of a meeting: a prompt that comes later stalls this answer, as this prompt stalls others."""


def left_by_load(
    ttft_s: float, lone_ttft_s: float, output_tokens: float, slo: Slo, met_s: float = 0.0
) -> float:
    """What load leaves of the chance that an idle engine would have, from 0 to 1.

    ``met_s``: seconds of prompts that are expected to come while the answer is written, beyond
    what a steady stream would bring, see `router.clumps`. In the mean a request does as much to
    others as they do to it, and who decides for all counts both.
    A miss that the SLO forgives costs nothing: with ``slo.attainment`` of the chance all is as
    planned.
    """
    lone_s, allowed_s = LONE_SLACK * lone_ttft_s, slo.ttft_s
    allowed_s = lone_s if lone_s > allowed_s else allowed_s
    if not ttft_s < allowed_s:
        return 0.0
    ttft_s = lone_ttft_s if lone_ttft_s > ttft_s else ttft_s
    soon: float = 1.0 - (ttft_s / allowed_s) ** SHARPNESS
    alone: float = 1.0 - (lone_ttft_s / allowed_s) ** SHARPNESS
    stalls_s = ttft_s - lone_ttft_s + SIDES * met_s
    stalls = stalls_s / ((output_tokens if output_tokens > 1.0 else 1.0) * slo.tpot_s)
    left = soon / alone * math.exp(-stalls) / slo.attainment
    return left if left < 1.0 else 1.0
