"""What holds of every plan, whatever the problem: found by trying, not by example."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from placement.checking import violations
from placement.ilp import solve
from placement.limits import Limits, ReplicaBound, Switching
from placement.problem import Stock
from profiler.errors import InfeasibleError
from tests.placement.problems import loaded, option

MARKETS = ("on_demand", "spot", "on_demand")
OPTIONS = tuple(
    option(gpu, price, market=m, gpus=k)
    for gpu, price, m, k in zip("AAB", (1.0, 0.6, 1.7), MARKETS, (1, 1, 2), strict=True)
)
MOST = 6
NOT_SERVED = st.just(math.nan)


@st.composite
def problems(draw):
    """Three options, up to three classes, some of them not served everywhere, stocks of all."""
    classes = draw(st.integers(1, 3))
    cell = st.floats(0.05, 2.0) | NOT_SERVED
    load = [
        draw(st.lists(cell, min_size=3, max_size=3).filter(lambda r: not np.isnan(r).all()))
        for _ in range(classes)
    ]
    rates = tuple(draw(st.lists(st.floats(0.01, 3), min_size=classes, max_size=classes)))
    limits = Limits(
        spot_share=draw(st.none() | st.floats(0, 1)), spot_reserve=draw(st.floats(0, 0.5))
    )
    stocks = tuple(Stock(o.gpu, o.market, draw(st.integers(0, 20))) for o in OPTIONS)
    return loaded(OPTIONS, load, rates=rates, headroom=0.9, limits=limits, stocks=stocks)


def cost(problem):
    """The least cost; infinite where there is none."""
    try:
        return solve(problem, gap=0).usd_per_hour
    except InfeasibleError:
        return math.inf


@settings(max_examples=15)
@given(p=problems(), more=st.integers(1, 3), less=st.floats(0.2, 1), factor=st.floats(0.2, 5))
def test_easier_problems_never_cost_more_and_prices_only_scale(p, more, less, factor):
    before = cost(p)
    plenty = tuple(replace(s, available=s.available + more) for s in p.stocks)
    assert cost(replace(p, stocks=plenty)) <= before + 1e-6
    fewer = tuple(replace(c, rate_rps=c.rate_rps * less) for c in p.classes)
    assert cost(replace(p, classes=fewer)) <= before + 1e-6
    assert cost(replace(p, load_s=p.load_s * less)) <= before + 1e-6
    assert cost(replace(p, limits=Limits())) <= before + 1e-6
    dearer = tuple(replace(o, usd_per_hour=o.usd_per_hour * factor) for o in p.options)
    assert cost(replace(p, options=dearer)) == pytest.approx(before * factor)


@settings(max_examples=25)
@given(p=problems())
def test_every_plan_serves_every_class_and_costs_no_less_than_its_bounds(p):
    try:
        found = solve(p)
    except InfeasibleError:
        return
    assert violations(p, found) == []
    assert found.shares.sum(axis=1) == pytest.approx(np.ones(len(p.classes)))
    assert (found.replicas[(found.shares > 0).any(axis=0)] > 0).all()
    lp, mip = found.lp_bound_usd_per_hour, found.lower_bound_usd_per_hour
    assert lp <= mip * (1 + 1e-6) + 1e-6
    assert mip <= found.usd_per_hour
    assert found.usd_per_hour - mip <= 1e-4 * found.usd_per_hour + 1e-6


def brute_force(p, running):
    """The least rent and moving cost over all small fleets, for one class served everywhere."""
    limits, best = p.limits, math.inf
    moving = limits.switching
    for n in itertools.product(range(MOST + 1), repeat=3):
        gpus = [k * o.gpus for k, o in zip(n, p.options, strict=True)]
        spot = sum(g for g, o in zip(gpus, p.options, strict=True) if o.market == "spot")
        reach = sum(
            k * (0.9 * (1 - limits.spot_reserve) if o.market == "spot" else 0.9) / ell
            for k, o, ell in zip(n, p.options, p.load_s[0], strict=True)
        )
        kept = (
            reach >= p.classes[0].rate_rps * (1 - 1e-9)
            and spot <= limits.spot_share * sum(gpus) + 1e-9
            and all(g <= s.available for g, s in zip(gpus, p.stocks, strict=True))
            and limits.replicas[0].minimum <= n[0] + n[1] <= limits.replicas[0].maximum
        )
        if kept:
            rent = sum(k * o.usd_per_hour for k, o in zip(n, p.options, strict=True))
            moves = sum(
                (k - r) * moving.start_usd if k > r else (r - k) * moving.stop_usd
                for k, r in zip(n, running, strict=True)
            )
            best = min(best, rent + moves / moving.horizon_h)
    return best


@settings(max_examples=30)
@given(
    rate=st.floats(0.1, 4),
    load=st.lists(st.floats(0.3, 1.5), min_size=3, max_size=3),
    share=st.floats(0, 1),
    reserve=st.floats(0, 0.6),
    available=st.lists(st.integers(0, MOST), min_size=3, max_size=3),
    bounds=st.tuples(st.integers(0, 2), st.integers(2, 8)),
    running=st.lists(st.integers(0, 3), min_size=3, max_size=3),
    horizon_h=st.floats(0.5, 20),
)
def test_all_limits_at_once_give_what_trying_every_fleet_finds(
    rate, load, share, reserve, available, bounds, running, horizon_h
):
    names = {o.name: k for o, k in zip(OPTIONS, running, strict=True)}
    limits = Limits(
        spot_share=share,
        spot_reserve=reserve,
        replicas=(ReplicaBound(*bounds, gpu="A"),),
        switching=Switching(names, start_usd=2.0, stop_usd=0.5, horizon_h=horizon_h),
    )
    stocks = tuple(Stock(o.gpu, o.market, k) for o, k in zip(OPTIONS, available, strict=True))
    p = loaded(OPTIONS, [load], rates=(rate,), headroom=0.9, limits=limits, stocks=stocks)
    best = brute_force(p, running)
    if math.isinf(best):
        with pytest.raises(InfeasibleError, match="the limits that bind"):
            solve(p, gap=0)
    else:
        assert solve(p, gap=0).objective_usd_per_hour == pytest.approx(best, rel=1e-6)
