"""After the loss of any one node what is left carries the load, for the least money."""

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from placement.ilp import solve
from placement.limits import Limits
from placement.node_loss import Losses
from placement.problem import Stock
from profiler.errors import InfeasibleError
from tests.placement.problems import loaded, option

SPARE = Limits(node_loss_headroom=1.0)


def carries(problem, replicas, headroom):
    """Whether some routing keeps every group at or under its headroom."""
    classes, options = problem.load_s.shape
    served = np.kron(np.eye(classes), np.ones(options))
    work = problem.rates_rps[:, None] * problem.load_s
    used = np.hstack([np.diag(row) for row in work])
    found = linprog(
        np.zeros(classes * options),
        A_ub=used,
        b_ub=headroom * np.array(replicas, float) + 1e-9,
        A_eq=served,
        b_eq=np.ones(classes),
    )
    return found.status == 0


def survives(problem, replicas):
    for j in np.flatnonzero(replicas):
        left = list(replicas)
        left[j] -= min(left[j], problem.options[j].per_node)
        if not carries(problem, left, problem.limits.node_loss_headroom):
            return False
    return carries(problem, replicas, problem.headroom)


def cheapest_survivor(problem, most, allowed=lambda n: True):
    prices = np.array([o.usd_per_hour for o in problem.options])
    fleets = sorted(
        itertools.product(range(most + 1), repeat=len(prices)), key=lambda n: n @ prices
    )
    return next(
        float(n @ prices) for n in map(np.array, fleets) if allowed(n) and survives(problem, n)
    )


@settings(max_examples=10)
@given(
    loads=st.lists(st.floats(0.3, 2.0), min_size=4, max_size=4),
    price=st.floats(0.3, 3.0),
    headroom=st.floats(0.6, 1.0),
)
def test_no_cheaper_fleet_survives(loads, price, headroom):
    p = loaded(
        (option("A", 1.0), option("B", price)),
        np.array(loads).reshape(2, 2),
        rates=(1.0, 0.7),
        headroom=headroom,
        limits=SPARE,
    )
    assert solve(p, gap=0).usd_per_hour == pytest.approx(cheapest_survivor(p, 8))


def test_replicas_that_only_make_room_for_spot_are_no_hindrance():
    options = (option("A", 0.1), option("B", 1.0, market="spot"), option("B", 9.0))
    load = [[1.0, np.nan, np.nan], [np.nan, 1.0, 1.0]]
    limits = Limits(node_loss_headroom=1.0, spot_share=0.2)
    found = solve(loaded(options, load, rates=(0.5, 5.0), limits=limits), gap=0)
    assert found.replicas.tolist() == [24, 6, 0]


@settings(max_examples=10)
@given(
    loads=st.lists(st.floats(0.3, 2.0), min_size=4, max_size=4),
    price=st.floats(0.3, 3.0),
    share=st.floats(0.2, 0.7),
)
def test_no_cheaper_fleet_survives_beside_a_cap_on_spot(loads, price, share):
    p = loaded(
        (option("A", 1.0), option("B", price, market="spot")),
        np.array(loads).reshape(2, 2),
        rates=(1.0, 0.7),
        limits=Limits(node_loss_headroom=1.0, spot_share=share),
    )
    best = cheapest_survivor(p, 9, lambda n: n[1] <= share * n.sum() + 1e-9)
    assert solve(p, gap=0).usd_per_hour == pytest.approx(best)


def test_rows_found_beforehand_are_kept_by_every_fleet_that_survives():
    load = [[1.0, 0.6], [0.5, 1.1]]
    p = loaded((option("A"), option("B", 1.2)), load, rates=(1.3, 0.9), limits=SPARE)
    rows = Losses(p).found_early([], time.monotonic() + 10)
    assert rows
    for n in itertools.product(range(6), repeat=2):
        lost = [np.minimum(n, [k == j for k in range(2)]) for j in np.flatnonzero(n)]
        broken = any(
            row.constant + np.array(row.per_replica) @ (n - gone) > 1e-6
            for row in rows
            for gone in lost
        )
        assert not (broken and survives(p, n)), n


def test_rows_of_models_that_share_no_class_are_of_one_model_each():
    options = tuple(option(gpu, model=m) for m in ("m", "n") for gpu in ("A", "B"))
    load = [[1, 1.1, np.nan, np.nan], [np.nan, np.nan, 1.2, 1]]
    p = loaded(options, load, rates=(3.5, 2.5), limits=SPARE)
    rows = Losses(p).broken(np.array([4, 0, 3, 0]))
    used = [frozenset(np.flatnonzero(row.per_replica).tolist()) for row in rows]
    assert len(used) == 2
    assert used[0] <= {0, 1}
    assert used[1] <= {2, 3}
    assert solve(p, gap=0).usd_per_hour == 9


def test_one_spare_replica_serves_for_the_loss_of_any():
    p = loaded((option("A"),), rates=(4.0,), limits=SPARE)
    assert solve(p).replicas.tolist() == [5]


def test_room_that_the_headroom_keeps_is_enough_where_it_is_a_node_s_worth():
    p = loaded((option("A"),), rates=(4.0,), headroom=0.8, limits=SPARE)
    assert solve(p).replicas.tolist() == [5]


def test_a_request_however_rare_finds_a_replica_after_the_loss():
    p = loaded((option("A"),), rates=(1e-9,), limits=SPARE)
    assert solve(p).replicas.tolist() == [2]


def test_a_whole_node_is_lost_with_all_that_stands_on_it():
    stock = Stock("A", "on_demand", node_gpus=4, usd_per_node_hour=4.0)
    p = loaded((option("A", node_gpus=4),), rates=(6.0,), stocks=(stock,), limits=SPARE)
    found = solve(p)
    assert (found.replicas.tolist(), found.nodes.tolist()) == ([10], [3])


def test_groups_share_no_node_that_may_be_lost():
    stock = Stock("A", "on_demand", node_gpus=4, usd_per_node_hour=4.0)
    options = tuple(option("A", model=m, node_gpus=4) for m in ("m", "n"))
    p = loaded(options, [[1, np.nan], [np.nan, 1]], rates=(1.0, 1.0), stocks=(stock,))
    shared = solve(p)
    apart = solve(
        loaded(
            options,
            [[1, np.nan], [np.nan, 1]],
            rates=(1.0, 1.0),
            stocks=(stock,),
            limits=SPARE,
        )
    )
    assert shared.nodes.tolist() == [1]
    assert apart.nodes.tolist() == [4]
    assert apart.replicas.tolist() == [5, 5]


def test_spare_capacity_that_the_stock_has_not_is_named_with_both_ways_out():
    stocks = (Stock("A", "on_demand", 4),)
    with pytest.raises(InfeasibleError) as caught:
        solve(loaded((option("A"),), rates=(4.0,), stocks=stocks, limits=SPARE))
    assert "stock of A (on-demand): 4 offered, 5 needed" in str(caught.value)
    assert "; or node_loss: no spare capacity" in str(caught.value)
