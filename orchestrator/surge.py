"""A burst over a pool that scales itself: the traffic, and what is seen of the pool meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.burst import Answer, Burst, send
from orchestrator.deploy.base import Status
from profiler.core import Slo
from profiler.errors import ClusterError
from profiler.sizes import Sizes, resolve_sizes
from profiler.traces import Trace

if TYPE_CHECKING:
    from openai import AsyncOpenAI

Phases = tuple[tuple[str, float, float], ...]
PHASES: Phases = (("before", 8.0, 1.0), ("burst", 28.0, 3.0), ("after", 8.0, 1.0))
"""Name, seconds, and times the planned rate."""
LOOK_S = 1.0
RECENT_S = 8.0
QUIET_SHARE = 0.05
"""Fewer refusals than this are none to speak of: the SLO forgives as many."""


@dataclass(frozen=True)
class GroupAt:
    """A group at a moment; the price is that of a replica kept at saturation, $/h."""

    name: str
    wanted: int
    ready: int
    price_usd_per_hour: float


@dataclass(frozen=True)
class Moment:
    """The pool at ``at_s`` seconds from the start; shares are of requests of the last ten."""

    at_s: float
    groups: tuple[GroupAt, ...]
    shed_share: float


@dataclass
class Surge:
    """What was sent and seen so far."""

    slo: Slo
    burst: Burst
    phases: Phases
    began_unix_s: float = 0.0
    moments: list[Moment] = field(default_factory=list)

    @property
    def peak(self) -> tuple[float, float]:
        """When the busiest phase begins and ends, in seconds."""
        ends = np.cumsum([0.0, *(s for _, s, _ in self.phases)])
        busiest = max(range(len(self.phases)), key=lambda i: self.phases[i][2])
        return float(ends[busiest]), float(ends[busiest + 1])

    def between(self, first_s: float, last_s: float) -> list[Answer]:
        """Answers, refusals included, to requests due in [first_s, last_s)."""
        return [a for a in self.burst.answers if first_s <= a.due_s < last_s]

    def recovered_s(self, window_s: float = 5.0) -> float | None:
        """From the beginning of the peak until hardly any more of it was refused; None: never."""
        first, last = self.peak
        edges = [float(t) for t in np.arange(first, last, window_s)]
        busy = [
            refused_share(self.between(e, min(e + window_s, last))) > QUIET_SHARE for e in edges
        ]
        if busy and busy[-1]:
            return None
        after = max((i for i, b in enumerate(busy) if b), default=-1) + 1
        return float(after * window_s)


def refused_share(answers: Sequence[Answer]) -> float:
    """Share that was turned away with 429; 0 of none."""
    return sum(a.refused for a in answers) / len(answers) if answers else 0.0


def attained(answers: Sequence[Answer], slo: Slo) -> float | None:
    """Share of the requests that were not turned away that met both targets; None of none."""
    served = [a for a in answers if not a.refused]
    return Burst(len(served), served).attainment(slo) if served else None


def surge_trace(rate_rps: float, sizes: Sizes, phases: Phases = PHASES, seed: int = 0) -> Trace:
    """Poisson arrivals at this rate, times that of each phase in turn."""
    rng = np.random.default_rng(seed)
    parts: list[NDArray[np.float64]] = []
    start_s = 0.0
    for _, seconds, factor in phases:
        count = rng.poisson(seconds * rate_rps * factor)
        parts.append(start_s + np.sort(rng.uniform(0, seconds, count)))
        start_s += seconds
    arrival_s = np.concatenate(parts)
    input_tokens, output_tokens = resolve_sizes(sizes).sample(len(arrival_s), rng)
    return Trace(arrival_s - arrival_s[0], input_tokens, output_tokens, source="surge")


async def send_surge(
    client: AsyncOpenAI,
    trace: Trace,
    slo: Slo,
    look: Callable[[], tuple[Status | None, dict[str, Any]]],
    on_look: Callable[[Surge], None],
    phases: Phases = PHASES,
) -> Surge:
    """Send the requests when they are due, and look at the pool each second.

    ``look`` gives the pool's status and its live feed; it may block, and fail with ClusterError.
    """
    surge = Surge(slo, Burst(len(trace)), phases, time.time())

    def changed(burst: Burst) -> None:
        surge.burst = burst

    async def watch() -> None:
        began_s = time.perf_counter()
        while True:
            try:
                status, live = await asyncio.to_thread(look)
                if status is not None:
                    surge.moments.append(_moment(time.perf_counter() - began_s, status, live))
                    on_look(surge)
            except ClusterError:
                pass  # the next look will tell
            await asyncio.sleep(LOOK_S)

    watching = asyncio.create_task(watch())
    try:
        surge.burst = await send(client, "auto", trace, on_change=changed)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    return surge


def _moment(at_s: float, status: Status, live: dict[str, Any]) -> Moment:
    prices = {g["name"]: float(g["price_usd_per_hour"]) for g in live["groups"]}
    groups = tuple(
        GroupAt(g.name, g.wanted, min(g.ready, g.wanted), prices.get(g.name, 0.0))
        for g in status.groups
    )
    shed = live["history"]["shed_share"]
    return Moment(at_s, groups, float(shed[-1]) if shed else 0.0)
