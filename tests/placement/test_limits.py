"""Each limit is kept, costs what it must and no more, and an impossible one is named."""

from dataclasses import replace

import pytest

from placement.ilp import solve
from placement.limits import Limits, ReplicaBound, Switching
from placement.problem import Stock, slot_gpus
from profiler.errors import InfeasibleError
from tests.builders import request_class
from tests.placement.problems import loaded, option

ON_DEMAND = option("A", 3.0)
SPOT = option("A", 1.0, market="spot")


def fleet(problem):
    return solve(problem, gap=0).replicas.tolist()


def test_without_limits_the_cheapest_serves_all():
    assert fleet(loaded((ON_DEMAND, SPOT), rates=(4.0,))) == [0, 4]


@pytest.mark.parametrize(("share", "expected"), [(1.0, [0, 4]), (0.5, [2, 2]), (0.0, [4, 0])])
def test_spot_is_no_more_than_its_share_of_accelerators(share, expected):
    limits = Limits(spot_share=share)
    assert fleet(loaded((ON_DEMAND, SPOT), rates=(4.0,), limits=limits)) == expected


def test_the_spot_reserve_is_bought_where_it_is_cheapest():
    limits = Limits(spot_reserve=0.5)
    assert fleet(loaded((ON_DEMAND, SPOT), rates=(4.0,), limits=limits)) == [0, 8]
    dear = (ON_DEMAND, option("A", 2.0, market="spot"))
    assert fleet(loaded(dear, rates=(4.0,), limits=limits)) == [4, 0]


def test_replicas_are_fixed_bounded_below_and_above():
    options = (option("A", 1.0), option("B", 2.0))

    def bounded(*bounds):
        return fleet(loaded(options, rates=(4.0,), limits=Limits(replicas=bounds)))

    assert bounded(ReplicaBound(2, None, gpu="B")) == [2, 2]
    assert bounded(ReplicaBound(0, 3, gpu="A")) == [3, 1]
    assert bounded(ReplicaBound(1, 1, gpu="A"), ReplicaBound(5, 5, model="m", gpu="B")) == [1, 5]
    assert bounded(ReplicaBound(6, None)) == [6, 0]


def test_stock_is_per_market_and_region():
    east, west = option("A", 1.0, region="east"), option("A", 1.5, region="west")
    options = (east, west, option("A", 1.2, market="spot", region="east"))
    stocks = (
        Stock("A", "on_demand", 1, "east"),
        Stock("A", "spot", 1, "east"),
        Stock("A", "on_demand", 9, "west"),
    )
    assert fleet(loaded(options, rates=(4.0,), stocks=stocks)) == [1, 2, 1]
    assert len({o.name for o in options}) == 3


def test_whole_nodes_are_paid_and_filled_before_another_is_bought():
    one, four = option("A", 1.0, node_gpus=8), option("A", 4.0, model="n", gpus=4, node_gpus=8)
    stock = Stock("A", "on_demand", 24, node_gpus=8, usd_per_node_hour=8.0)
    classes = (request_class(4.0, stream="m"), request_class(2.0, stream="n"))
    nan = float("nan")
    p = loaded((one, four), [[1, nan], [nan, 1]], classes=classes, stocks=(stock,))
    found = solve(p, gap=0)
    assert (found.replicas.tolist(), found.nodes.tolist()) == ([4, 2], [2])
    assert found.usd_per_hour == 16.0
    short = replace(p, stocks=(replace(stock, available=15),))
    with pytest.raises(InfeasibleError, match=r"nodes of 8\): 15 offered, 16 needed"):
        solve(short)


def test_single_accelerators_beat_a_node_that_would_stand_half_empty():
    options = (option("A", 1.0, node_gpus=8), option("A", 1.5))
    stock = Stock("A", "on_demand", node_gpus=8, usd_per_node_hour=8.0)
    assert fleet(loaded(options, rates=(5.0,), stocks=(stock,))) == [0, 5]
    assert fleet(loaded(options, rates=(7.0,), stocks=(stock,))) == [7, 0]


@pytest.mark.parametrize(
    ("gpus", "node", "expected"), [(1, 8, 1), (3, 8, 4), (5, 8, 8), (2, 6, 3), (4, 1, 4), (3, 3, 3)]
)
def test_sizes_are_rounded_up_to_what_packs_without_waste(gpus, node, expected):
    assert slot_gpus(gpus, node) == expected


def test_a_running_fleet_is_kept_unless_moving_pays_within_the_horizon():
    options = (option("A", 1.0), option("B", 2.0))
    running = {options[1].name: 4}

    def moved(horizon_h):
        moving = Switching(running, start_usd=3.0, stop_usd=1.0, horizon_h=horizon_h)
        return solve(loaded(options, rates=(4.0,), limits=Limits(switching=moving)), gap=0)

    assert moved(3.9).replicas.tolist() == [0, 4]
    assert moved(4.1).replicas.tolist() == [4, 0]
    assert moved(4.1).switching_usd_per_hour == pytest.approx(4 * (3 + 1) / 4.1)
    assert moved(4.1).usd_per_hour == 4.0


def test_quality_floors_hold_for_each_class_where_the_mean_alone_would_not():
    options = (option("A", 1.0, model="small"), option("A", 3.0, model="large"))
    quality = [[0.5, 0.9], [0.1, 0.9]]
    mean = Limits(quality_mean={"auto": 0.5})
    p = loaded(options, rates=(8.0, 2.0), quality=quality, limits=mean)
    averaged = solve(p, gap=0)
    floored = replace(p, classes=(p.classes[0], replace(p.classes[1], quality_floor=0.89)))
    found = solve(floored, gap=0)
    assert averaged.shares[1] @ quality[1] < 0.8
    assert found.shares[1] @ quality[1] >= 0.89 - 1e-6
    assert found.usd_per_hour >= averaged.usd_per_hour
    impossible = replace(p, classes=(p.classes[0], replace(p.classes[1], quality_floor=0.95)))
    with pytest.raises(InfeasibleError, match=r"quality of auto: .* 0.95 asked, at most 0.9000"):
        solve(impossible)


def test_a_budget_buys_the_best_quality_and_then_the_lowest_cost():
    options = (option("A", 1.0, model="small"), option("A", 3.0, model="large"))

    def spent(usd_per_hour):
        limits = Limits(budget_usd_per_hour=usd_per_hour)
        return solve(loaded(options, rates=(4.0,), quality=[0.5, 0.9], limits=limits), gap=0)

    assert spent(4.0).replicas.tolist() == [4, 0]
    assert spent(9.0).replicas.tolist() == [2, 2]
    assert spent(9.0).quality == pytest.approx(0.7)
    rich = spent(50.0)
    assert (rich.replicas.tolist(), rich.usd_per_hour) == ([0, 4], 12.0)
    assert rich.quality_bound == pytest.approx(0.9)
    with pytest.raises(InfeasibleError, match=r"budget_usd_per_hour: 3 asked, 4\.00 needed"):
        spent(3.0)


def test_every_single_limit_that_would_mend_the_problem_is_offered():
    limits = Limits(budget_usd_per_hour=5.0, replicas=(ReplicaBound(0, 1, gpu="A"),))
    options = (option("A", 1.0), option("B", 2.0))
    with pytest.raises(InfeasibleError) as caught:
        solve(loaded(options, rates=(4.0,), limits=limits))
    assert "replicas.max of A: 1 asked, 3 needed" in str(caught.value)
    assert "; or budget_usd_per_hour: 5 asked, 7.00 needed" in str(caught.value)
    assert caught.value.exit_code == 3


def test_limits_that_only_together_would_do_are_named_together():
    limits = Limits(replicas=(ReplicaBound(0, 1, gpu="A"),))
    stocks = (Stock("A", "on_demand", 1),)
    with pytest.raises(InfeasibleError) as caught:
        solve(loaded((option("A", 1.0),), rates=(3.0,), stocks=stocks, limits=limits))
    assert "1 offered, 3 needed and replicas.max of A: 1 asked, 3 needed" in str(caught.value)


def test_a_spot_share_too_small_for_the_on_demand_stock_says_which_would_do():
    limits = Limits(spot_share=0.1)
    stocks = (Stock("A", "on_demand", 1),)
    p = loaded((ON_DEMAND, SPOT), rates=(4.0,), limits=limits, stocks=stocks)
    with pytest.raises(InfeasibleError, match=r"spot.share: 0.1 asked, 0.7500 needed"):
        solve(p)


def test_a_demand_that_nothing_offered_can_meet_is_named():
    limits = Limits(replicas=(ReplicaBound(2, None, gpu="C"),))
    with pytest.raises(InfeasibleError, match=r"replicas.min of C: 2 asked, 0 needed"):
        solve(loaded((option("A"),), limits=limits))
