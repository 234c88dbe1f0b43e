"""The route table sends each class of requests to the groups in the plan's shares."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placement.plan import Plan
from serve_apps.router.base import NoGroupLeftError, RouteRequest, UnknownModelError
from serve_apps.router.table import RouteTable
from tests.plan_builders import group, plan, route

SHORT, LONG = (0, 100), (100, 1000)


def realised(
    table: RouteTable, n: int, model: str = "auto", tokens: int = 10, limit: int | None = None
) -> Counter[str]:
    return Counter(table.route(RouteRequest(model, tokens, limit)).group for _ in range(n))


def two_groups(**kwargs: object) -> tuple:
    return (group("a", "m1", **kwargs), group("b", "m2", **kwargs))


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 200), st.integers(1, 200))
def test_realised_shares_track_the_plan_in_every_class_at_once(
    short: float, long: float, n_short: int, n_long: int
) -> None:
    table = RouteTable(
        plan(
            two_groups(),
            (
                route({"a": short, "b": 1 - short}, inputs=SHORT),
                route({"a": long, "b": 1 - long}, inputs=LONG),
            ),
        )
    )
    served = {SHORT: Counter[str](), LONG: Counter[str]()}
    for i in range(max(n_short, n_long)):  # the classes interleave
        if i < n_short:
            served[SHORT][table.route(RouteRequest("auto", 50)).group] += 1
        if i < n_long:
            served[LONG][table.route(RouteRequest("auto", 500)).group] += 1
    assert abs(served[SHORT]["a"] - n_short * short) < 1
    assert abs(served[LONG]["a"] - n_long * long) < 1


def by_output() -> Plan:
    return plan(
        two_groups(),
        (
            route({"a": 1.0}, outputs=SHORT, rate_rps=3.0),
            route({"b": 1.0}, outputs=LONG, rate_rps=1.0),
        ),
    )


def test_unknown_output_length_is_averaged_by_how_often_each_is_expected() -> None:
    assert realised(RouteTable(by_output()), 40) == {"a": 30, "b": 10}


def test_max_tokens_rules_out_longer_answers() -> None:
    assert realised(RouteTable(by_output()), 40, limit=100) == {"a": 40}


def test_max_tokens_below_every_bucket_falls_back_to_the_smallest() -> None:
    table = RouteTable(
        plan(two_groups(), (route({"b": 1.0}, outputs=LONG), route({"a": 1.0}, outputs=(10, 100))))
    )
    assert realised(table, 5, limit=1) == {"a": 5}


def test_input_beyond_every_bucket_uses_the_nearest() -> None:
    table = RouteTable(
        plan(two_groups(), (route({"a": 1.0}, inputs=SHORT), route({"b": 1.0}, inputs=LONG)))
    )
    assert realised(table, 3, tokens=10**6) == {"b": 3}
    assert realised(table, 3, tokens=100) == {"a": 3}
    assert realised(table, 3, tokens=101) == {"b": 3}


def test_a_named_model_uses_its_own_stream() -> None:
    groups = (group("a", "m1"), group("b", "m1"))
    table = RouteTable(plan(groups, (route({"a": 1.0}), route({"b": 1.0}, stream="m1"))))
    assert realised(table, 4, model="m1") == {"b": 4}


def test_a_named_model_without_stream_uses_its_part_of_auto() -> None:
    groups = (group("a", "m1"), group("b", "m1"), group("c", "m2"))
    table = RouteTable(plan(groups, (route({"a": 0.2, "b": 0.1, "c": 0.7}),)))
    assert realised(table, 30, model="m1") == {"a": 20, "b": 10}


def test_a_named_model_that_no_route_uses_goes_by_replicas() -> None:
    groups = (group("a", "m1"), group("b", "m2", replicas=2), group("c", "m2"))
    table = RouteTable(plan(groups, (route({"a": 1.0}),)))
    decisions = [table.route(RouteRequest("m2", 10)) for _ in range(30)]
    assert Counter(d.group for d in decisions) == {"b": 20, "c": 10}
    assert decisions[0].model == "m2"
    assert "no route" in decisions[0].reason


def test_an_unknown_model_is_named_with_the_nearest() -> None:
    with pytest.raises(UnknownModelError, match="did you mean 'm1'"):
        RouteTable(plan()).route(RouteRequest("m1x", 10))


def test_auto_is_unknown_where_the_plan_does_not_route_it() -> None:
    table = RouteTable(plan(routes=(route({"a": 1.0}, stream="m1"),)))
    assert table.models == ("m1",)
    with pytest.raises(UnknownModelError):
        table.route(RouteRequest("auto", 10))


def test_what_avoids_a_group_keeps_to_the_shares_of_the_others() -> None:
    groups = (group("a", "m1"), group("b", "m1"), group("c", "m2"))
    table = RouteTable(plan(groups, (route({"a": 0.5, "b": 0.1, "c": 0.4}),)))
    ten = Counter(table.route(RouteRequest("auto", 10), {"a"}).group for _ in range(10))
    assert ten == {"b": 2, "c": 8}
    assert realised(table, 10) == {"a": 5, "b": 1, "c": 4}


def test_groups_outside_the_class_stand_in_when_none_of_it_is_left() -> None:
    groups = (group("a", "m1"), group("b", "m1"), group("c", "m2"))
    table = RouteTable(plan(groups, (route({"a": 1.0}),)))
    named = table.route(RouteRequest("m1", 10), {"a"})
    assert (named.group, named.others) == ("b", False)
    assert table.route(RouteRequest("auto", 10), {"a", "b"}).model == "m2"
    with pytest.raises(NoGroupLeftError):
        table.route(RouteRequest("m1", 10), {"a", "b"})


def test_nothing_stands_in_that_has_not_the_context() -> None:
    table = RouteTable(plan((group("a"), group("b")), (route({"a": 1.0}),)))
    assert table.route(RouteRequest("m1", 2000, 48)).others
    assert not table.route(RouteRequest("m1", 2000, 49)).others
    with pytest.raises(NoGroupLeftError):
        table.route(RouteRequest("m1", 2000, 49), {"a"})
