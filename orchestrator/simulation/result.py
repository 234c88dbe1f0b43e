"""What became of every request and replica of a simulated fleet."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from orchestrator.simulator import Ints, Timings


class Outcome(enum.IntEnum):
    """How a request ended; `serve_apps.seeing.record.Outcome` counts the same in production."""

    PENDING = 0  # not yet; no request of a finished simulation is
    OK = 1
    REJECTED = 2  # 4xx: no such model, or longer than the engine's context
    OVERLOADED = 3  # 429: no slot in time
    UNAVAILABLE = 4  # 503: no replica, or two died under it
    CUT = 5  # its replica died after the first token, which the client had


@dataclass(frozen=True)
class ReplicaUse:
    """One replica's life: asked for, ready (infinite: never), gone; and the time its engine ran."""

    group: str
    started_s: float
    ready_s: float
    ended_s: float
    busy_s: float
    steps: int

    @property
    def utilisation(self) -> float:
        """Share of the time it was ready in which its engine was in a step."""
        ready_s = self.ended_s - self.ready_s
        return self.busy_s / ready_s if ready_s > 0 else 0.0


@dataclass(frozen=True)
class FleetTimings(Timings):
    """`Timings` of a fleet; ``rejected`` is every request whose outcome is not OK.

    A request that was cut keeps the time of its first token, and never finishes. ``group``
    indexes ``groups``: where it went or was last meant to go (-1: nowhere). ``stream`` indexes
    ``streams``, ``replica`` indexes ``replicas`` (-1: none had it); ``losses`` counts the replicas
    that died under a request. The fleet's life ends
    at ``end_s``: the last arrival, or the end or loss of the last request.
    """

    input_tokens: Ints
    outcome: Ints
    group: Ints
    stream: Ints = field(repr=False)
    losses: Ints = field(repr=False)
    groups: tuple[str, ...]
    streams: tuple[str, ...]
    replicas: tuple[ReplicaUse, ...] = field(repr=False)
    end_s: float

    def count(self, outcome: Outcome) -> int:
        """Requests that ended so."""
        return int((self.outcome == outcome).sum())

    @property
    def replica_seconds(self) -> dict[str, float]:
        """Seconds paid for in each group, starting and draining included."""
        paid = dict.fromkeys(self.groups, 0.0)
        for replica in self.replicas:
            paid[replica.group] += replica.ended_s - replica.started_s
        return paid

    @property
    def utilisation(self) -> dict[str, float]:
        """Busy over ready seconds of each group's replicas; 0 where none was ever ready."""
        busy, ready = dict.fromkeys(self.groups, 0.0), dict.fromkeys(self.groups, 0.0)
        for replica in self.replicas:
            busy[replica.group] += replica.busy_s
            ready[replica.group] += max(0.0, replica.ended_s - replica.ready_s)
        return {g: busy[g] / ready[g] if ready[g] > 0 else 0.0 for g in self.groups}
