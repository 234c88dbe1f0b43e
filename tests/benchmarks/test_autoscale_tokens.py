"""The token-based saturation rule follows what its publisher says of it."""

from __future__ import annotations

from benchmarks.autoscale_tokens import TokenSaturation, Variant
from orchestrator.simulation.events import GroupState, Observation


def rule(**variants: Variant) -> TokenSaturation:
    return TokenSaturation(variants, input_tokens=100.0)


def cheap() -> Variant:
    return Variant(1.0, 10_000.0, 8_000.0)


def dear() -> Variant:
    return Variant(3.0, 20_000.0, 16_000.0)


def seen(time_s: float = 30.0, **groups: GroupState) -> Observation:
    return Observation(time_s, 30.0, groups, {})


def state(ready: int, used: float, waiting: int = 0, starting: int = 0) -> GroupState:
    return GroupState(ready, starting, 0, 0, 0, (used,) * ready, (waiting,) * ready)


def test_as_many_of_the_cheapest_are_added_as_demand_over_the_threshold_asks_for() -> None:
    # 20,000 tokens in use over 0.85, less 16,000 of supply: 7,529 more, and 8,000 a replica
    assert rule(a=cheap(), b=dear())(seen(a=state(0, 0.0), b=state(1, 1.0))) == {"a": 1}
    # 40,000 over 0.85, less 32,000
    assert rule(a=cheap(), b=dear())(seen(a=state(0, 0.0), b=state(2, 1.0))) == {"a": 2}


def test_those_that_start_count_as_supply() -> None:
    assert rule(a=cheap())(seen(a=state(2, 1.0))) == {"a": 3}
    assert rule(a=cheap())(seen(a=state(2, 1.0, starting=1))) == {}


def test_prompts_that_wait_are_demand_and_a_full_replica_shows_what_it_can_compute() -> None:
    assert rule(a=cheap())(seen(a=state(2, 0.6, waiting=4))) == {}
    # at five that wait, 6,000 tokens are all that each can hold
    assert rule(a=cheap())(seen(a=state(2, 0.6, waiting=5))) == {"a": 3}


def test_the_dearest_go_where_the_rest_would_stay_under_the_boundary() -> None:
    found = rule(a=cheap(), b=dear())(seen(a=state(2, 0.1), b=state(1, 0.0)))
    assert found == {"b": 0, "a": 1}
    assert rule(a=cheap())(seen(a=state(1, 0.0))) == {}


def test_it_looks_every_thirty_seconds() -> None:
    acting = rule(a=cheap())
    assert acting(seen(30.0, a=state(2, 1.0))) == {"a": 3}
    assert acting(seen(45.0, a=state(2, 1.0))) == {}
    assert acting(seen(60.0, a=state(2, 1.0))) == {"a": 3}
