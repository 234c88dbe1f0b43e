"""Fleets and moments for the autoscaler's tests."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.simulation.events import GroupState, Observation
from placement.plan import Plan
from tests import builders, plan_builders

KEY = ("auto", plan_builders.bucket((0, 1000), (0, 200)).key)


def plan(prices: Mapping[str, float], *, speed: Mapping[str, float] | None = None) -> Plan:
    """Groups by price; a group of speed s has the law's times divided by s."""
    groups = []
    for name, price in prices.items():
        s = (speed or {}).get(name, 1.0)
        law = builders.step_time(0.01 / s, 5e-5 / s, 1e-4 / s, 1e-7 / s)
        made = plan_builders.group(name, "m1", gpu=f"gpu-{name}")
        profile = builders.profile("m1", f"gpu-{name}", law=law)
        groups.append(made.model_copy(update={"usd_per_hour": price, "profile": profile}))
    shares = {name: 1 / len(groups) for name in prices}
    route = plan_builders.route(shares, outputs=(0, 200), rate_rps=4.0)
    return plan_builders.plan(tuple(groups), (route,))


def moment(
    time_s: float,
    rps: float | None,
    fleet: Mapping[str, int | tuple[int, int]],
    interval_s: float = 20.0,
    refused: Mapping[str, int] | None = None,
) -> Observation:
    """A fleet by ready replicas, or (ready, starting); None for a rate that is not known."""
    pairs = {n: (c, 0) if isinstance(c, int) else c for n, c in fleet.items()}
    groups = {n: GroupState(ready, starting, 0, 0, 0) for n, (ready, starting) in pairs.items()}
    arrivals = None if rps is None else {KEY: round(rps * interval_s)}
    return Observation(time_s, interval_s, groups, arrivals, refused or {})
