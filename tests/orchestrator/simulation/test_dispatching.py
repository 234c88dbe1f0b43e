"""The production dispatcher before a simulated fleet: overload, fairness, failures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from orchestrator.simulation.dispatching import FlowTimings, simulate_flow
from orchestrator.simulation.events import Event
from orchestrator.simulation.load_policy import Always, ModelOption, PolicyRouter, Priced
from orchestrator.simulation.result import Outcome
from orchestrator.simulation.run import Conditions, simulate
from orchestrator.simulator import Floats, Ints, attainment
from placement.plan import Plan
from serve_apps.flow.nouns import Anyone
from serve_apps.router.loads import LoadGrid
from tests.serve_apps.flow import flows


@dataclass
class Trace:
    arrival_s: Floats
    input_tokens: Ints
    output_tokens: Ints


def trace(rate_rps: float, requests: int = 1500, seed: int = 0) -> Trace:
    rng = np.random.default_rng(seed)
    return Trace(
        np.cumsum(rng.exponential(1 / rate_rps, requests)),
        rng.integers(50, 150, requests),
        rng.integers(10, 60, requests),
    )


def plan(replicas: int = 2) -> Plan:
    group = flows.group(replicas=replicas, max_num_seqs=32, kv_tokens=20_000)
    return flows.plan(group, slo=flows.Slo(ttft_s=0.5, tpot_s=0.03))


def capacity_rps(of: Plan) -> float:
    """Of requests of the trace's mean size, inside the SLO."""
    return sum(g.replicas / LoadGrid(g.profile, of.slo)(100, 35) for g in of.groups)


def jain(shares: Sequence[float]) -> float:
    return sum(shares) ** 2 / (len(shares) * sum(s * s for s in shares))


def test_in_calm_the_dispatcher_costs_nothing() -> None:
    of = plan()
    asked = trace(0.5 * capacity_rps(of))
    with_it, without = simulate_flow(of, asked), simulate(of, asked)
    assert with_it.count(Outcome.OK) == len(asked.arrival_s)
    assert np.median(with_it.ttft_s) == pytest.approx(np.median(without.ttft_s), rel=0.05)
    assert attainment(with_it, of.slo) >= attainment(without, of.slo) - 0.005


def test_at_five_times_its_capacity_the_fleet_does_what_it_can() -> None:
    of = plan()
    rate = 5 * capacity_rps(of)
    got = simulate_flow(of, trace(rate, 4000))
    assert attainment(got, of.slo) * rate >= 0.95 * capacity_rps(of)
    refused = np.isfinite(got.refused_s)
    assert refused_late(got) == 0
    assert not np.isfinite(got.first_token_s[refused]).any()


def refused_late(got: FlowTimings) -> int:
    """How many were let wait first."""
    refused = np.isfinite(got.refused_s)
    return int((got.refused_s[refused] > got.arrival_s[refused]).sum())


def served(got: FlowTimings, who: Ints, tenants: int) -> list[float]:
    ok = got.outcome == Outcome.OK
    return [float((ok & (who == k)).sum()) for k in range(tenants)]


def test_a_tenant_that_asks_ten_times_as_much_gets_no_more() -> None:
    of = plan()
    asked = trace(6 * capacity_rps(of), 6000)
    who = (np.random.default_rng(1).random(6000) < 1 / 11).astype(np.int64)
    got = simulate_flow(of, asked, askers=(Anyone("heavy"), Anyone("light")), asker=who)
    share = served(got, who, 2)
    # The light one asks for 6/11 of the capacity, more than its half.
    assert jain(share) >= 0.95
    assert refused_late(got) <= 0.002 * len(who)


def test_a_higher_priority_is_served_first_and_a_lower_one_still() -> None:
    of = plan()
    asked = trace(3 * capacity_rps(of), 4000)
    who = np.arange(4000) % 3 == 0
    askers = Anyone("low"), Anyone("high", priority=1)
    got = simulate_flow(of, asked, askers=askers, asker=who.astype(np.int64))
    low, high = served(got, who.astype(np.int64), 2)
    assert high / who.sum() > 0.85
    assert low > 0.02 * (~who).sum()


def test_requests_of_a_replica_that_dies_go_to_another() -> None:
    of = plan()
    asked = trace(0.4 * capacity_rps(of), 800)
    dies = [Event(float(asked.arrival_s[400]), "die", "a", 0)]
    conditions = Conditions(replace=False)
    got = simulate_flow(of, asked, events=dies, conditions=conditions)
    lost = got.losses > 0
    assert lost.any()
    assert got.count(Outcome.UNAVAILABLE) == 0
    assert (got.attempts[lost & (got.outcome == Outcome.OK)] == 2).all()
    assert got.count(Outcome.CUT) + got.count(Outcome.OK) == 800


def two_models() -> Plan:
    return flows.plan(
        flows.group("big", "m1", 1, 16, kv_tokens=20_000),
        flows.group("small", "m2", 2, 32, kv_tokens=20_000),
        slo=flows.Slo(ttft_s=0.5, tpot_s=0.03),
    )


def test_policies_choose_between_models_and_the_dispatcher_does_the_rest() -> None:
    of = two_models()
    asked = trace(0.8 * capacity_rps(of), 1500)
    quality = {"m1": 0.9, "m2": 0.6}
    big = simulate_flow(of, asked, router=PolicyRouter(of, Always("m1"), quality))
    ours = simulate_flow(of, asked, router=PolicyRouter(of, Priced(worth_usd=0.01), quality))
    assert big.count(Outcome.OVERLOADED) > 0.3 * 1500
    assert set(big.group[big.outcome == Outcome.OK].tolist()) == {0}
    assert ours.count(Outcome.OK) > 0.98 * 1500
    assert (ours.group == 0).sum() > 0.8 * big.count(Outcome.OK)


def test_a_policy_sees_each_models_quality_price_and_predicted_ttft() -> None:
    of = two_models()
    seen: list[list[ModelOption]] = []

    class Looks:
        def choose(self, options: Sequence[ModelOption], state: object) -> str | None:
            seen.append(list(options))
            return None

    asked = trace(10.0, 5)
    quality = np.linspace(0, 1, 10).reshape(5, 2)
    got = simulate_flow(of, asked, router=PolicyRouter(of, Looks(), quality))
    assert got.count(Outcome.OVERLOADED) == 5
    assert [[o.quality for o in options] for options in seen] == quality.tolist()
    assert all(o.predicted_ttft_s < 0.5 and o.price_usd > 0 for o in seen[0])
