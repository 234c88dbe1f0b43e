"""A fleet's capacity is what linear programming says it is, and never less."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from orchestrator.autoscale.pools import Pool, concurrency, pools_of
from tests import plan_builders
from tests.orchestrator.autoscale import scenes


def pool(load_s, usd=None, fixed=None) -> Pool:
    load_s = np.array(load_s, dtype=float)
    classes, groups = load_s.shape
    return Pool(
        model="m",
        groups=tuple(f"g{k}" for k in range(groups)),
        usd_per_s=np.ones(groups) if usd is None else np.array(usd, dtype=float),
        classes=tuple(("auto", str(c)) for c in range(classes)),
        share=np.ones(classes),
        planned_rps=np.ones(classes),
        load_s=load_s,
        minimum=np.zeros(groups, dtype=int),
        maximum=np.full(groups, 100),
        fixed=fixed,
    )


def best_multiple(load_s, rates, replicas) -> float:
    """How many times the rates can be spread over the replicas, by linear programming."""
    classes, groups = load_s.shape
    cost = np.zeros(classes * groups + 1)
    cost[-1] = -1
    full = np.zeros((groups, len(cost)))
    for g in range(groups):
        full[g, g : classes * groups : groups] = np.where(
            np.isfinite(load_s[:, g]), load_s[:, g], 0
        )
    whole = np.zeros((classes, len(cost)))
    for c in range(classes):
        whole[c, c * groups : (c + 1) * groups] = np.isfinite(load_s[c])
        whole[c, -1] = -rates[c]
    found = linprog(cost, A_ub=full, b_ub=replicas, A_eq=whole, b_eq=np.zeros(classes))
    return float(-found.fun)


loads = st.floats(0.05, 2.0)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(loads, loads), min_size=1, max_size=5), st.data())
def test_capacity_of_two_types_is_the_linear_programs(rows, data):
    load_s = np.array(rows)
    rates = np.array(data.draw(st.lists(st.floats(0.1, 5), min_size=len(rows), max_size=len(rows))))
    replicas = np.array([data.draw(st.integers(1, 6)), data.draw(st.integers(0, 6))], dtype=float)
    p = pool(load_s)
    exact = best_multiple(load_s, rates, replicas) * p.work(rates)
    found = p.capacity(rates, replicas[None])[0]
    assert found == pytest.approx(exact, rel=1e-6)


def test_a_class_that_one_type_cannot_serve_is_bounded_by_the_other():
    p = pool([[1.0, np.inf], [1.0, 1.0]])
    mix = np.array([1.0, 1.0])
    # one of each: the second type can take all of the second class only
    assert p.capacity(mix, np.array([[1.0, 1.0]]))[0] == pytest.approx(2.0)
    assert p.capacity(mix, np.array([[1.0, 100.0]]))[0] == pytest.approx(2.0)
    assert p.capacity(mix, np.array([[0.0, 9.0]]))[0] == pytest.approx(0.0)


def test_with_fixed_shares_the_fullest_group_decides():
    p = pool([[1.0, 1.0]], fixed=np.array([[0.75, 0.25]]))
    assert p.capacity(np.ones(1), np.array([[3.0, 1.0], [3.0, 9.0], [9.0, 1.0]])) == pytest.approx(
        [4.0, 4.0, 4.0]
    )


def test_work_is_the_rent_where_a_request_is_cheapest():
    p = pool([[1.0, 0.5]], usd=[1.0, 3.0])
    assert p.work(np.array([2.0])) == pytest.approx(2.0)


def test_a_plans_models_are_pools_of_their_own_with_the_plans_parts_of_a_class():
    groups = (plan_builders.group("a", "m1"), plan_builders.group("b", "m2"))
    plan = plan_builders.plan(groups, (plan_builders.route({"a": 0.3, "b": 0.7}, outputs=(0, 50)),))
    first, second = pools_of(plan)
    assert (first.groups, second.groups) == (("a",), ("b",))
    assert (first.share[0], second.share[0]) == (pytest.approx(0.3), pytest.approx(0.7))


def test_a_faster_replica_has_more_in_hand_at_its_limit():
    plan = scenes.plan({"slow": 1.0, "fast": 2.0}, speed={"fast": 2.0})
    buckets = [r.bucket for r in plan.routes]
    slow, fast = (concurrency(g, buckets, np.ones(1), plan.slo) for g in plan.groups)
    assert 1 < slow < fast
