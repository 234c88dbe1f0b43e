"""What an operator asks of the autoscaler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from placement.plan import Plan
from profiler.errors import InputError, UnknownNameError

COLD_START_S = 104.0
"""From asking for a replica to its first request: an 8B model, as Ray has published."""


@dataclass(frozen=True)
class ScalePolicy:
    """What an operator says.

    ``miss_worth`` is what a request that misses its SLO costs, over the rent that serving it at
    full load takes: at 10, one more replica is worth it where chances are over one in ten that
    it is needed. ``headroom`` is how full a replica may be. ``minimum`` and ``maximum`` are
    replicas by group; a group without a minimum may go to zero. ``shedding`` tells whether the
    router turns away what it cannot serve in time; ``keep_shares`` whether it keeps to the plan's
    shares. Nothing is stopped before ``warm_up_s`` of load was seen.
    """

    miss_worth: float = 10.0
    headroom: float = 1.0
    minimum: Mapping[str, int] = field(default_factory=dict)
    maximum: Mapping[str, int] = field(default_factory=dict)
    budget_usd_per_hour: float | None = None
    cold_start_s: float | Mapping[str, float] = COLD_START_S
    shedding: bool = True
    keep_shares: bool = False
    drain_s: float = 30.0
    warm_up_s: float = 120.0

    def cold_s(self, group: str) -> float:
        """The cold start of a group's replicas."""
        if isinstance(self.cold_start_s, Mapping):
            return self.cold_start_s.get(group, COLD_START_S)
        return self.cold_start_s


DEFAULTS = ScalePolicy()


def check(plan: Plan, policy: ScalePolicy) -> None:
    """Refuse what makes no sense, or is not about this plan.

    Raises:
        InputError: a figure makes no sense.
        UnknownNameError: it names a group that the plan has not.
    """
    names = [g.name for g in plan.groups]
    for limits in (policy.minimum, policy.maximum):
        for name, count in limits.items():
            if name not in names:
                raise UnknownNameError("group", name, names)
            if count < 0:
                raise InputError(f"{name}: found {count} replicas, expected 0 or more")
    for name in policy.minimum:
        if policy.minimum[name] > policy.maximum.get(name, policy.minimum[name]):
            found = f"at least {policy.minimum[name]} and at most {policy.maximum[name]}"
            raise InputError(f"{name}: found {found} replicas, expected a minimum not over it")
    if not policy.miss_worth > 0 or not 0 < policy.headroom <= 2:
        found = f"miss_worth {policy.miss_worth:g} and headroom {policy.headroom:g}"
        raise InputError(f"found {found}, expected a worth above 0 and a headroom in (0, 2]")
    if policy.budget_usd_per_hour is not None and not policy.budget_usd_per_hour >= 0:
        raise InputError(f"found a budget of {policy.budget_usd_per_hour} $/h, expected 0 or more")
    colds = [policy.cold_s(n) for n in names]
    if not all(0 < c < float("inf") for c in colds):
        raise InputError(f"found cold starts of {colds} s, expected times above 0")
