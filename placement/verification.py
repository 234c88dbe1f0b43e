"""What trying a plan in simulation found: a part of the plan file."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from profiler.core import NonNegative, Noun, Share, Slo


class TriedStream(Noun):
    """Requests of one stream under one SLO, and the share of them that met it when tried.

    Every arrival counts, those that were turned away too.
    """

    stream: str
    slo: Slo
    trace: Share = Field(description="on the trace itself, or on the arrivals first generated")
    mean: Share = Field(description="over the seeds of arrivals tried beside it")
    worst: Share = Field(description="the least of all that was tried")
    expected_worst: Share = Field(
        description="a seed not tried stays above this with 97.5 % confidence (a t interval)"
    )
    before: Share = Field(description="worst of the plan as it was before it was tried")


class Verification(Noun):
    """How a plan fared against its traffic, and what making it hold has cost.

    The promise holds when, in every stream, the trace, each seed and a seed not tried keep the
    SLO's share; cost is by the hour, before is that of the cheapest plan without trying.
    """

    simulated: Literal[True] = True
    holds: bool
    streams: tuple[TriedStream, ...]
    rounds: int = Field(description="plans tried")
    seeds: tuple[int, ...] = Field(description="of the arrivals tried beside the trace")
    requests: int = Field(description="requests in the trace as tried")
    unverified_usd_per_hour: NonNegative
    promise_usd_per_hour: float = Field(description="the cost of the promise: after less before")
    unverified_quality: Share | None = Field(
        None, description="expected quality before it was tried; set where a budget was"
    )
    headroom: dict[str, Share] = Field(
        default_factory=dict, description="groups planned at less than the plan's headroom"
    )
    note: str | None = None
