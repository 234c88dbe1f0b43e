"""Models that share stock are solved apart: the same cost as in one piece, and bounds that hold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from placement.apart import run_apart
from placement.decompose import solve_apart
from placement.ilp import solve
from placement.limits import Limits, Switching
from placement.mip import from_pulp, linking_rows
from placement.model import build
from placement.problem import Stock
from placement.solver import run_highs
from profiler.errors import InfeasibleError
from tests.builders import request_class
from tests.placement.problems import loaded, option

MODELS = ("m1", "m2", "m3")


def coupled(load_s, rates=(1.0,) * 6, stocks=(4, 4), limits=Limits(), node_gpus=1):  # noqa: B008
    """Three models of two classes each, on GPU types A and B (two of them), whose stock is one."""
    options = tuple(
        option(gpu, price, model=m, gpus=k, node_gpus=node_gpus if gpu == "B" else 1)
        for m in MODELS
        for gpu, price, k in (("A", 1.0, 1), ("B", 1.7, 2), ("C", 4.0, 1))
    )
    classes = tuple(
        request_class(r, 100 * (i + 1), stream=MODELS[i // 2]) for i, r in enumerate(rates)
    )
    own = np.array([[o.model == c.stream for o in options] for c in classes])
    return loaded(
        options,
        np.where(own, np.tile(np.array(load_s, dtype=float), (1, 3)), np.nan),
        classes=classes,
        stocks=(
            Stock("A", "on_demand", stocks[0]),
            Stock("B", "on_demand", stocks[1], "", node_gpus, 3.2 if node_gpus > 1 else 0.0),
        ),
        limits=limits,
    )


def apart(problem, gap=0.0):
    """Solved by pricing each model, however small."""
    model = build(problem)
    mip = from_pulp(model.lp)
    shares = np.array([v.name.startswith("x_") for v in model.lp.variables()])
    linking, parts = linking_rows(mip, shares)
    assert parts == len(MODELS)
    return mip, solve_apart(mip, linking, time_limit_s=20, gap=gap, least_columns=2)


problems = st.builds(
    coupled,
    load_s=st.lists(st.lists(st.floats(0.1, 2), min_size=3, max_size=3), min_size=6, max_size=6),
    rates=st.lists(st.floats(0.05, 3), min_size=6, max_size=6).map(tuple),
    stocks=st.tuples(st.integers(0, 8), st.integers(0, 8)),
    limits=st.sampled_from(
        (Limits(), Limits(switching=Switching({}, start_usd=0.3, stop_usd=0.1)))
    ),
    node_gpus=st.sampled_from((1, 4)),
)


@settings(max_examples=8)
@given(problem=problems, gap=st.sampled_from((1e-4, 0.02)))
def test_the_cost_is_that_of_the_whole_program_and_the_bound_is_below_it(problem, gap):
    whole = run_highs(build(problem).lp, time_limit_s=20, gap=0.0)
    mip, found = apart(problem, gap)
    assert found.values is not None
    assert mip.keeps(found.values)
    cost = float(mip.cost @ found.values)
    assert found.bound <= whole.bound + 1e-6
    assert whole.bound - 1e-6 <= cost <= whole.bound * (1 + gap) / (1 - gap) + 1e-6
    assert cost - found.bound <= gap * cost + 1e-6


@settings(max_examples=5)
@given(problem=problems)
def test_the_planner_finds_the_same_either_way(problem):
    one, other = solve(problem, gap=0, run=run_apart), solve(problem, gap=0, run=run_highs)
    assert one.usd_per_hour + one.switching_usd_per_hour == pytest.approx(
        other.usd_per_hour + other.switching_usd_per_hour
    )


def test_only_limits_that_several_models_share_link_them():
    model = build(coupled(np.ones((6, 3))))
    shares = np.array([v.name.startswith("x_") for v in model.lp.variables()])
    linking, _ = linking_rows(from_pulp(model.lp), shares)
    names = np.array([row.name for row in model.lp.constraints()])
    assert set(names[linking]) == {"stock_0", "stock_1"}


def test_what_is_not_shared_is_solved_at_once():
    problem = coupled(np.ones((6, 3)), stocks=(None, None))
    mip, found = apart(problem)
    assert mip.cost @ found.values == pytest.approx(6.0)
    assert found.bound == pytest.approx(6.0)


def test_scarce_stock_goes_where_it_saves_most():
    load = np.array([[1, 9, 0.5], [1, 9, 0.5], [1, 9, 0.9], [1, 9, 0.9], [1, 9, 1], [1, 9, 1]])
    found = solve(coupled(load, stocks=(2, 0)), gap=0)
    replicas = dict(zip([(o.model, o.gpu) for o in coupled(load).options], found.replicas))  # noqa: B905
    assert replicas["m1", "A"] == 0, "one C carries both its classes"
    assert found.usd_per_hour == pytest.approx(4 + 8 + 2)


def test_what_shared_stock_makes_impossible_is_named_as_by_the_whole_program():
    load = np.full((6, 3), np.nan)
    load[:, 0] = 1.0
    problem = coupled(load, stocks=(5, 0))
    with pytest.raises(InfeasibleError) as apart_says:
        solve(problem, run=run_apart)
    with pytest.raises(InfeasibleError) as whole_says:
        solve(problem, run=run_highs)
    assert str(apart_says.value) == str(whole_says.value)
    assert apart(problem)[1].values is None


def test_an_answer_that_time_cut_short_still_has_a_bound_that_holds():
    problem = coupled(np.full((6, 3), 0.7), rates=(1, 2, 3, 1, 2, 3), stocks=(3, 4))
    best = run_highs(build(problem).lp, time_limit_s=20, gap=0.0)
    model = build(problem)
    mip = from_pulp(model.lp)
    shares = np.array([v.name.startswith("x_") for v in model.lp.variables()])
    found = solve_apart(mip, linking_rows(mip, shares)[0], time_limit_s=0.0, gap=0.0)
    assert found.bound <= best.bound + 1e-6
