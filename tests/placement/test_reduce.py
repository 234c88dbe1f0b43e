"""Options and classes that no answer needs are left out, and the least cost stays what it was."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from placement.apart import run_apart
from placement.checking import violations
from placement.ilp import solve
from placement.limits import Limits, ReplicaBound, Switching
from placement.model import build
from placement.node_loss import broken_survivals, sole_servers
from placement.problem import Stock
from placement.reduce import kept_options, reduced
from placement.solver import values
from profiler.errors import InfeasibleError
from tests.builders import request_class
from tests.placement.problems import loaded, option

WORSE = (option("A", 1.0), option("A", 2.2, gpus=2))
"""Two accelerators as one replica, for more than two of one, and carrying less than those."""
LOADS = [[1.0, 0.6], [0.5, 0.3]]


def whole_cost(problem):
    """The least cost with every option and class in the program."""
    survivals = sole_servers(problem)
    while True:
        model = build(problem, survivals=survivals)
        outcome = run_apart(model.lp, time_limit_s=20, gap=0.0)
        if outcome.status == "infeasible":
            return math.inf
        broken = broken_survivals(problem, values(problem, model)[0])
        if not broken:
            return outcome.bound
        survivals += broken


def worse(**kwargs):
    return loaded(WORSE, LOADS, rates=(1.0, 2.0), **kwargs)


def test_an_option_that_smaller_ones_outdo_in_every_way_is_left_out():
    assert kept_options(worse()) == (0,)


def test_of_two_options_that_are_alike_one_is_kept():
    assert kept_options(loaded((option("A"), option("A", region="r")), 1.0)) == (0,)


@pytest.mark.parametrize(
    ("why", "problem"),
    [
        ("a class only it carries so well", loaded(WORSE, [[1.0, 0.6], [0.5, 0.2]], rates=(1, 1))),
        ("a class only it serves", loaded(WORSE, [[1.0, 0.6], [np.nan, 0.3]], rates=(1, 1))),
        ("it is cheaper", loaded((WORSE[0], option("A", 1.9, gpus=2)), LOADS, rates=(1, 1))),
        ("there must be such", worse(limits=Limits(replicas=(ReplicaBound(2, None, "m", "A"),)))),
        ("replicas may be few", worse(limits=Limits(replicas=(ReplicaBound(0, 2),)))),
        ("it runs", worse(limits=Limits(switching=Switching({WORSE[1].name: 1}, 1.0, 1.0)))),
        ("fewer starts", worse(limits=Limits(switching=Switching({}, 1.0, 1.0)))),
        ("better answers", worse(quality=[[0.5, 0.6], [0.5, 0.6]])),
    ],
)
def test_an_option_that_something_speaks_for_is_kept(why, problem):
    expected = (0,) if why == "there must be such" else (0, 1)  # more replicas do no harm to it
    assert kept_options(problem) == expected, why


def test_another_stock_stands_in_only_where_it_never_ends():
    options = (option("A", 1.0), option("B", 1.5))
    scarce = loaded(options, 1.0, stocks=(Stock("A", "on_demand", 3),))
    assert kept_options(loaded(options, 1.0)) == (0,)
    assert kept_options(scarce) == (0, 1)


def test_on_demand_is_kept_where_spot_may_be_no_more_than_a_share():
    options = (option("A", 1.0), option("A", 0.6, market="spot"))
    assert kept_options(loaded(options, 1.0)) == (1,)
    assert kept_options(loaded(options, 1.0, limits=Limits(spot_share=0.5))) == (0, 1)
    assert kept_options(loaded(options, 1.0, limits=Limits(spot_reserve=0.1))) == (0, 1)


def test_groups_on_whole_nodes_that_may_be_lost_stay_apart():
    options = tuple(option("A", node_gpus=4, gpus=k) for k in (1, 2))
    stocks = (Stock("A", "on_demand", node_gpus=4, usd_per_node_hour=4.0),)
    p = loaded(options, [[1.0, 0.6]], stocks=stocks)
    assert kept_options(p) == (0,)
    assert kept_options(replace(p, limits=Limits(node_loss_headroom=1.0))) == (0, 1)


def test_classes_whose_loads_differ_by_a_factor_are_one_at_the_rate_of_all_their_load():
    p = loaded((option("A"), option("B")), [[1, 2], [3, 6], [1, 2.1]], rates=(1.0, 2.0, 1.0))
    small = reduced(replace(p, stocks=(Stock("A", "on_demand", 1),)))
    assert small.merged.tolist() == [0, 0, 1]
    assert [c.rate_rps for c in small.problem.classes] == [7.0, 1.0]


def test_classes_of_one_load_stay_apart_where_their_quality_does():
    streams = tuple(replace(request_class(), difficulty=d) for d in range(3))
    quality = [[0.9, 0.5], [0.9, 0.5], [0.9, 0.2]]
    p = loaded((option("A"), option("B", 0.5)), [[1, 2]] * 3, classes=streams, quality=quality)
    assert reduced(p).merged.tolist() == [0, 0, 1]


LOAD = st.sampled_from((0.3, 0.5, 0.6, 1.0, 1.2, math.nan))
BOUNDS = st.sampled_from(
    (
        (),
        (ReplicaBound(2, None, gpu="A"),),
        (ReplicaBound(0, 4),),
        (ReplicaBound(1, 3, market="on_demand"),),
    )
)


@st.composite
def problems(draw):
    """Five options, some of which outdo others, and classes that are often alike; any limits."""
    node = draw(st.sampled_from((1, 4)))
    options = (
        option("A", 1.0),
        option("A", draw(st.sampled_from((1.9, 2.0, 2.4))), gpus=2),
        option("A", 0.6, market="spot"),
        option("B", draw(st.sampled_from((0.9, 1.5))), node_gpus=node),
        option("B", draw(st.sampled_from((1.8, 2.9))), gpus=2, node_gpus=node),
    )
    rows = draw(
        st.lists(
            st.lists(LOAD, min_size=5, max_size=5).filter(lambda r: not np.isnan(r).all()),
            min_size=1,
            max_size=3,
        )
    )
    rows += [[2 * x for x in rows[0]], rows[-1]]
    rates = draw(st.lists(st.floats(0.1, 2.5), min_size=len(rows), max_size=len(rows)))
    quality = draw(st.none() | st.lists(st.sampled_from((0.5, 0.8)), min_size=5, max_size=5))
    floor = draw(st.sampled_from((None, 0.6)))
    classes = tuple(
        replace(request_class(r, 100 * (i + 1), stream="auto"), quality_floor=floor)
        for i, r in enumerate(rates)
    )
    running = {options[draw(st.integers(0, 4))].name: draw(st.integers(0, 3))}
    limits = Limits(
        quality_mean={"auto": 0.55} if quality and draw(st.booleans()) else {},
        spot_share=draw(st.sampled_from((None, 0.4))),
        spot_reserve=draw(st.sampled_from((0.0, 0.2))),
        replicas=draw(BOUNDS),
        node_loss_headroom=draw(st.sampled_from((None, 1.0))),
        switching=draw(st.sampled_from((None, Switching(running, 0.4, 0.2, 2.0)))),
    )
    stocks = [Stock("A", "on_demand", draw(st.sampled_from((None, 3, 6))))]
    if node > 1:
        stocks.append(Stock("B", "on_demand", 12, node_gpus=node, usd_per_node_hour=4.2))
    return loaded(
        options,
        rows,
        classes=classes,
        quality=quality,
        limits=limits,
        stocks=tuple(stocks),
        headroom=0.9,
    )


@pytest.mark.slow
@settings(max_examples=15)
@given(p=problems())
def test_the_least_cost_is_that_of_the_whole_problem(p):
    try:
        found = solve(p, gap=0, lp_bound=False)
    except InfeasibleError:
        assert math.isinf(whole_cost(p))
        return
    assert found.objective_usd_per_hour == pytest.approx(whole_cost(p), abs=1e-6)
    assert violations(p, found) == []
