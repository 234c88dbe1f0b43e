"""Prices of a fleet: the duals of using it, in units that make the router's rule the LP's."""

import functools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from placement.checking import violations
from placement.ilp import solve
from placement.limits import Limits
from placement.prices import fleet_prices, row_quality, settled, to_plan, utility
from placement.problem import Option
from tests.builders import problem, profile, request_class

SMALL, LARGE = 0.6, 0.9


def options():
    named = (("small", "a"), ("large", "b"), ("large", "c"))
    return tuple(Option(profile(m, g), "on_demand", 1.0) for m, g in named)


@functools.cache
def base():
    classes = tuple(request_class(1.0, 100 * 2**i, 50 * (i + 1)) for i in range(3))
    return problem(classes, options(), quality={"small": SMALL, "large": LARGE})


def two_models(rates=(4.0, 3.0, 2.0), loads=None, target=0.7, prices=(1.0, 3.0, 5.0)):
    """Three classes of ``rates``, on a small model and on two options of a large one."""
    p = base()
    loads = loads or [[0.05 * (i + 1), 0.12 + 0.1 * i, 0.2 + 0.02 * i] for i in range(3)]
    return replace(
        p,
        classes=tuple(replace(c, rate_rps=r) for c, r in zip(p.classes, rates, strict=True)),
        options=tuple(replace(o, usd_per_hour=u) for o, u in zip(p.options, prices, strict=True)),
        load_s=np.array(loads),
        limits=Limits(quality_mean={} if target is None else {"auto": target}),
    )


def priced_fleet(p):
    found = solve(p)
    return found, fleet_prices(p, found.replicas, found.shares)


def load_of(p, shares):
    return np.nansum(p.rates_rps[:, None] * p.load_s * shares, axis=0)


cells = st.floats(0.02, 1.0)
problems = st.builds(
    two_models,
    rates=st.tuples(*[st.floats(0.1, 20)] * 3),
    loads=st.lists(st.lists(cells, min_size=3, max_size=3), min_size=3, max_size=3),
    target=st.floats(SMALL, LARGE),
    prices=st.tuples(*[st.floats(0.5, 10)] * 3),
)
assignments = st.lists(
    st.lists(st.floats(0.01, 1), min_size=3, max_size=3), min_size=3, max_size=3
).map(lambda rows: np.array(rows) / np.sum(rows, axis=1, keepdims=True))


def fleet_for(p, shares):
    """Just enough replicas for an assignment."""
    return np.ceil(load_of(p, shares) / p.usable).astype(np.int64)


@settings(max_examples=25)
@given(problems, assignments)
def test_the_prices_are_an_optimal_dual(p, shares):
    replicas = fleet_for(p, shares)
    prices = fleet_prices(p, replicas, shares)
    nu, worth = prices.scarcity_usd_per_hour, prices.quality_usd_per_hour
    room = p.usable * replicas
    dual = p.rates_rps @ prices.class_usd_per_hour - nu @ room
    assert dual == pytest.approx(prices.objective_usd_per_hour, rel=1e-6, abs=1e-9)
    spare = room - load_of(p, prices.shares)
    assert (spare >= -1e-6).all()
    assert (spare * nu <= 1e-5).all(), "only full groups are scarce"
    for row, price in zip(prices.rows, worth, strict=True):
        surplus = row_quality(p, prices.shares, row) - row.target
        assert surplus >= -1e-6
        assert surplus * price <= 1e-5, "only a target just met has a price"


@settings(max_examples=25)
@given(problems, assignments)
def test_the_highest_utility_is_where_the_lp_sends_each_class(p, shares):
    prices = fleet_prices(p, fleet_for(p, shares), shares)
    worth = utility(p, prices)
    best = np.nanmax(worth, axis=1)
    for of_class, top, row in zip(worth, best, prices.shares > 1e-6, strict=True):
        assert row.any()
        assert of_class[row] == pytest.approx(np.full(row.sum(), top), rel=1e-6, abs=1e-6)


@settings(max_examples=15)
@given(problems, assignments, st.floats(0.1, 10))
def test_dearer_gpus_scale_every_price(p, shares, factor):
    prices = fleet_prices(p, fleet_for(p, shares), shares)
    dearer = tuple(replace(o, usd_per_hour=o.usd_per_hour * factor) for o in p.options)
    scaled = fleet_prices(replace(p, options=dearer), fleet_for(p, shares), shares)
    assert scaled.objective_usd_per_hour == pytest.approx(
        factor * prices.objective_usd_per_hour, rel=1e-6
    )
    assert np.allclose(scaled.class_usd_per_hour, factor * prices.class_usd_per_hour, rtol=1e-5)


@pytest.mark.parametrize("target", [0.65, 0.72, 0.8])
def test_the_price_of_quality_is_what_a_little_more_of_it_costs(target):
    p = two_models(target=target)
    replicas = np.array([3, 3, 2])
    shares = np.tile([0.0, 0.5, 0.5], (3, 1))
    before = fleet_prices(p, replicas, shares)
    step = 1e-4
    more = two_models(target=target + step)
    after = fleet_prices(more, replicas, shares)
    cost = after.objective_usd_per_hour - before.objective_usd_per_hour
    # lambda is $/h per unit of quality at one request/s: over all requests, times their rate.
    assert cost == pytest.approx(
        before.quality_usd_per_hour[0] * p.rates_rps.sum() * step, rel=1e-3
    )


def test_the_price_of_a_class_is_what_one_more_request_per_second_costs():
    p = two_models()
    replicas, shares = np.array([3, 3, 2]), np.tile([0.0, 0.5, 0.5], (3, 1))
    before = fleet_prices(p, replicas, shares)
    more = two_models(rates=(4.0, 3.001, 2.0))
    after = fleet_prices(more, replicas, shares)
    cost = after.objective_usd_per_hour - before.objective_usd_per_hour
    assert cost == pytest.approx(before.class_usd_per_hour[1] * 0.001, rel=1e-3)


def test_a_group_with_room_costs_its_rent_and_a_full_one_more():
    p = two_models(target=None)
    roomy = fleet_prices(p, np.array([5, 1, 0]), np.tile([1.0, 0.0, 0.0], (3, 1)))
    assert roomy.load_usd_per_hour[0] == pytest.approx(1.0 / p.headroom)
    assert roomy.load_usd_per_hour[2] == np.inf
    all_small = load_of(p, np.tile([1.0, 0.0, 0.0], (3, 1)))[0]
    rates = np.array([c.rate_rps for c in p.classes]) * 0.8 * p.headroom / all_small
    tight = two_models(rates=tuple(rates * 1.5), target=None)
    half = fleet_prices(tight, np.array([1, 2, 0]), np.tile([0.5, 0.5, 0.0], (3, 1)))
    assert half.load_usd_per_hour[0] > 1.0 / p.headroom


def test_quality_that_comes_by_itself_has_no_price():
    _, prices = priced_fleet(two_models(target=SMALL))
    assert prices.quality_usd_per_hour == pytest.approx([0.0])


def test_a_floor_has_a_price_of_its_own_for_its_class():
    p = two_models(target=None)
    strict = replace(p.classes[0], quality_floor=0.8)
    p = replace(p, classes=(strict, *p.classes[1:]), limits=Limits())
    found, prices = priced_fleet(p)
    named = to_plan(p, prices)
    assert named.quality == {}
    assert list(named.floors) == [str(strict)]
    assert set(named.load) == {o.name for o, n in zip(p.options, found.replicas, strict=True) if n}
    worth = utility(p, prices)
    assert worth[0, 1] == pytest.approx(np.nanmax(worth[0]))


def test_under_a_budget_the_quality_it_buys_has_a_price():
    p = two_models(target=None)
    p = replace(p, limits=replace(p.limits, budget_usd_per_hour=6.0))
    found, prices = priced_fleet(p)
    (row,) = prices.rows
    assert row.target == pytest.approx(found.quality, abs=1e-6)
    assert prices.quality_usd_per_hour[0] > 0


@settings(max_examples=5)
@given(problems)
def test_a_settled_plan_keeps_every_limit_with_no_more_capacity(p):
    found = solve(p)
    kept, _ = settled(p, found)
    assert violations(p, kept) == []
    rent = np.array([o.usd_per_hour for o in p.options])
    assert rent @ load_of(p, kept.shares) <= rent @ load_of(p, found.shares) * (1 + 1e-6)
    assert kept.usd_per_hour == found.usd_per_hour
