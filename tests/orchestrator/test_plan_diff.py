"""Two plans compared: groups, money, and the requests that would go elsewhere."""

from io import StringIO

import pytest
from rich.console import Console

from orchestrator.plan_diff import diff_lines, plan_diff
from tests.plan_builders import group, plan, route

LONG = {"inputs": (1000, 2000)}


def costing(p, usd):
    return p.model_copy(update={"cost": p.cost.model_copy(update={"usd_per_hour": usd})})


def shown(diff):
    out = StringIO()
    for part in diff_lines(diff):
        Console(file=out, width=140).print(part)
    return out.getvalue()


def test_equal_plans_do_not_differ():
    diff = plan_diff(plan(), plan())
    assert diff.same
    assert shown(diff).strip() == "no difference in groups, routes or cost"


def test_groups_are_added_removed_resized_and_replaced():
    before = plan((group("a"), group("b"), group("c")))
    after = plan(
        (group("b", replicas=3), group("c", max_num_seqs=16), group("d")), (route({"b": 1}),)
    )
    changes = {g.name: g.change for g in plan_diff(before, after).groups}
    assert changes == {"a": "removed", "b": "resized", "c": "replaced", "d": "added"}
    resized = next(g for g in plan_diff(before, after).groups if g.name == "b")
    assert (resized.replicas_before, resized.replicas_after) == (1, 3)
    assert resized.usd_per_hour_change == pytest.approx(0.2)
    text = shown(plan_diff(before, after))
    assert "- a: 1 replica\n" in text
    assert "+ d: 1 x (1 x cpu)" in text


def test_the_cost_change_is_told_with_its_part():
    diff = plan_diff(costing(plan(), 8.0), costing(plan(), 10.0))
    assert diff.usd_per_hour == pytest.approx(2.0)
    assert "$8.00/h -> $10.00/h: +2.00 $/h (+25.0%)" in shown(diff)


def test_moved_requests_are_weighed_by_the_later_plans_rates():
    groups = (group("a"), group("b"))
    before = plan(groups, (route({"a": 1}), route({"a": 0.5, "b": 0.5}, **LONG)))
    after = plan(groups, (route({"a": 0.8, "b": 0.2}, rate_rps=3), route({"b": 1}, **LONG)))
    # 0.2 of 3 requests/s, and 0.5 of 1.
    assert plan_diff(before, after).moved_share == pytest.approx((0.6 + 0.5) / 4)
    assert not plan_diff(before, after).same


def test_sizes_that_only_one_plan_routes_are_told():
    before = plan(routes=(route({"a": 1}), route({"a": 1}, **LONG)))
    after = plan(routes=(route({"a": 1}, rate_rps=3), route({"a": 1}, outputs=(1000, 2000))))
    diff = plan_diff(before, after)
    assert diff.new_share == pytest.approx(0.25)
    assert diff.dropped == ("auto: in<=2000,out<=1000",)
    assert "25.0% are of sizes that were not routed before" in shown(diff)
    assert "1 request class is no longer routed" in shown(diff)
