"""What happens to a simulated fleet beside its requests, and who looks at it or resizes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from placement.plan import Plan
from profiler.errors import InputError, UnknownNameError

Kind = Literal["start", "stop", "die", "reclaim"]


@dataclass(frozen=True)
class Event:
    """Something that befalls a replica at a time.

    ``start``: one more is asked for, and is ready after its group's cold start. ``stop``: one
    takes no more requests and leaves when the last has ended. ``die``: one is gone at once.
    ``reclaim``: the provider gives notice; it takes no more requests, and dies when the notice is
    over. ``replica`` counts the replicas of the group in the order in which they were started,
    from 0; without it, one that still starts is taken first, then the ready one with the fewest
    requests, the newest at a tie. What is gone already is left alone.
    """

    time_s: float
    kind: Kind
    group: str
    replica: int | None = None


@dataclass(frozen=True)
class GroupState:
    """A group at one moment: its replicas, and requests in its engines and waiting for a slot.

    ``kv_used`` is the share of KV blocks taken and ``waiting`` the requests in the engine's own
    queue, one of each ready replica; empty where engines do not tell.
    """

    ready: int
    starting: int
    draining: int
    in_flight: int
    queued: int
    kv_used: tuple[float, ...] = ()
    waiting: tuple[int, ...] = ()

    @property
    def staying(self) -> int:
        """Replicas that start or take requests: what an autoscaler's wish is about."""
        return self.ready + self.starting


@dataclass(frozen=True)
class Observation:
    """What an autoscaler sees: the groups now, and the arrivals since it was last asked.

    ``arrivals`` counts them by (stream, bucket key), whether they were answered or not, by the
    sizes they turn out to have; None where the count could not be had. ``refused`` is how many
    replicas of a group were asked for since then and could not be had.
    """

    time_s: float
    interval_s: float
    groups: Mapping[str, GroupState]
    arrivals: Mapping[tuple[str, str], float] | None
    refused: Mapping[str, int] = field(default_factory=dict)


class Autoscaler(Protocol):
    """Says how many replicas each group should have; groups it leaves out stay as they are."""

    def __call__(self, seen: Observation) -> Mapping[str, int]:
        """Wanted replicas by group name, counting those that start but not those that drain."""
        ...


class FleetView(Protocol):
    """What a router may know of the fleet while it decides."""

    @property
    def now_s(self) -> float:
        """The time."""

    def group(self, name: str) -> GroupState:
        """A group as it is now."""


@runtime_checkable
class LoadAware(Protocol):
    """A router that looks at the fleet's load; it is shown the fleet once, before it routes."""

    def watch(self, fleet: FleetView) -> None:
        """Keep the view for the decisions to come."""


def spot_reclaims(
    plan: Plan, per_replica_hour: float, duration_s: float, seed: int = 0
) -> tuple[Event, ...]:
    """Reclaims of the plan's spot replicas, each group's a Poisson process of its planned size.

    ``per_replica_hour`` is how many reclaims one replica meets in an hour on average. Events name
    no replica, so whichever is spared most easily is taken.

    Raises:
        InputError: the rate or the duration is negative or not finite.
    """
    if not (0 <= per_replica_hour < float("inf") and 0 <= duration_s < float("inf")):
        raise InputError(
            f"found {per_replica_hour} reclaims an hour for {duration_s} s, expected 0 or more"
        )
    rng = np.random.default_rng(seed)
    events = []
    for group in plan.groups:
        if group.market == "spot":
            mean = per_replica_hour / 3600 * group.replicas * duration_s
            times = rng.uniform(0, duration_s, rng.poisson(mean))
            events += [Event(float(t), "reclaim", group.name) for t in times]
    return tuple(sorted(events, key=lambda e: e.time_s))


def check_events(plan: Plan, events: tuple[Event, ...]) -> None:
    """Refuse events of groups that are not there, or before time 0.

    Raises:
        InputError: a time or a replica's number is negative.
        UnknownNameError: the plan has no group of that name.
    """
    groups = [g.name for g in plan.groups]
    for event in events:
        if event.group not in groups:
            raise UnknownNameError("group", event.group, groups)
        if not 0 <= event.time_s < float("inf") or (event.replica or 0) < 0:
            raise InputError(f"found {event}, expected a finite time and a replica from 0 on")
