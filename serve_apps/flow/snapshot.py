"""The dispatcher's state at one moment, for metrics and for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from serve_apps.flow.nouns import RefusalKind


@dataclass(frozen=True)
class ReplicaSnapshot:
    """One replica: ``state`` is open, warming, hanging or ejected; ratios are actual over
    predicted latency of late.
    """

    id: str
    url: str
    state: str
    in_flight: int
    backlog_tokens: float
    context_tokens: float
    ttft_ratio: float
    tpot_ratio: float
    completions: int


@dataclass(frozen=True)
class GroupSnapshot:
    """One group. Prices are dollars per hour for one replica kept at saturation; ``slots`` is
    what its open engines hold at most; ``wait_s`` what the next request would wait.
    """

    name: str
    model: str
    in_flight: int
    queued: int
    queued_load_s: float
    wait_s: float
    slots: int
    price: float
    planned_price: float
    states: Mapping[str, int]
    replicas: tuple[ReplicaSnapshot, ...]


@dataclass(frozen=True)
class FlowSnapshot:
    """All groups now, and counts since the start.

    ``shed`` of the ``dispatched`` were answered by another model than in a calm hour.
    """

    time_s: float
    groups: tuple[GroupSnapshot, ...]
    arrived: int
    dispatched: int
    shed: int
    retried: int
    refused: Mapping[RefusalKind, int]
    draining: bool

    @property
    def shed_share(self) -> float:
        """Of those dispatched, the share that load moved to another model."""
        return self.shed / self.dispatched if self.dispatched else 0.0
