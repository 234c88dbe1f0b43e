"""The fleet at one moment, as the dispatcher knows it; asked for at a scrape, never per request."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class ReplicaState(enum.StrEnum):
    """What may be sent to a replica."""

    READY = "ready"
    EJECTED = "ejected"  # failing or slow: gets nothing until a probe succeeds
    PROBING = "probing"  # ejected, and being tried again
    DRAINING = "draining"  # finishes what it has
    STARTING = "starting"  # wanted by the plan, not found yet


@dataclass(frozen=True, slots=True)
class ReplicaNow:
    """One replica; ``in_flight`` counts the requests of this ingress process alone.

    ``url`` is where its engine listens, such as ``http://10.0.0.7:8000``.
    """

    id: str
    group: str
    url: str = ""
    state: ReplicaState = ReplicaState.READY
    in_flight: int = 0
    tokens_in_flight: int = 0


@dataclass(frozen=True, slots=True)
class GroupNow:
    """One replica group. Prices are USD per hour for one replica kept at saturation.

    ``usd_per_hour`` is the rent of one replica; ``wanted`` is the plan's count; ``queued`` are
    requests that wait for this group in this ingress process.
    """

    name: str
    model: str
    gpu: str = ""
    wanted: int = 0
    usd_per_hour: float = 0.0
    price_usd_per_hour: float = 0.0
    planned_price_usd_per_hour: float = 0.0
    queued: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The fleet, the queue, and what the plan in force promised.

    ``queued`` counts all that wait in this process, also what waits for no group in particular;
    ``retry_budget`` is the share of the retry budget that is left, in 0..1; ``budget_usd`` is what
    may be spent in 30 days, None without a limit. ``ingresses`` are addresses
    (``host:port``) at which each ingress process alone can be asked for its metrics.
    """

    service: str = ""
    plan_digest: str = ""
    router: str = ""
    groups: tuple[GroupNow, ...] = ()
    replicas: tuple[ReplicaNow, ...] = ()
    queued: int = 0
    oldest_queued_s: float = 0.0
    retry_budget: float = 1.0
    planned_usd_per_hour: float = 0.0
    budget_usd: float | None = None
    ttft_slo_s: float | None = None
    tpot_slo_s: float | None = None
    attainment_slo: float | None = None
    ingresses: tuple[str, ...] = ()
