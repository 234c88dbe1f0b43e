"""Whether another plan may pay is told by a few sums, and no sooner again than there is more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orchestrator.autoscale.market import Market, Potential, Standing
from orchestrator.autoscale.pools import pools_of
from tests.orchestrator.autoscale import scenes

HOUR_S = 3600.0
POOL = pools_of(scenes.plan({"a": 1.0}))[0]
EACH = float(POOL.work_usd[0])


def market(**prices):
    """Options at so many times what a request costs in the pool."""
    return Market(
        model=dict.fromkeys(prices, "m1"),
        place={n: f"place of {n}" for n in prices},
        request_usd={n: {scenes.KEY: p * EACH} for n, p in prices.items()},
    )


def standing(usd_per_hour=4.0, work=0.75, **more):
    """A pool that carries a part ``work`` of its rent, nothing missed."""
    usd_per_s = usd_per_hour / HOUR_S
    return Standing(POOL, POOL.planned_rps, work * usd_per_s, usd_per_s, usd_per_s, **more)


def potential(found, **more):
    figures = {"horizon_s": 4 * HOUR_S, "cold_s": 100.0, "drain_s": 30.0, **more}
    return Potential(found, **figures)


def test_the_least_is_that_of_the_cheapest_option():
    both = market(a=1.0, b=0.4)
    assert both.least_usd_per_s(standing()) * HOUR_S == pytest.approx(0.4 * 0.75 * 4.0)
    assert both.least_usd_per_s(standing(out=("b",))) * HOUR_S == pytest.approx(0.75 * 4.0)


def test_what_nothing_can_serve_costs_what_it_does_here():
    none = replace(market(b=0.4), request_usd={"b": {}})
    assert none.least_usd_per_s(standing()) * HOUR_S == pytest.approx(3.0)


def test_options_of_other_models_do_not_count():
    other = replace(market(a=1.0, b=0.1), model={"a": "m1", "b": "m2"})
    assert other.least_usd_per_s(standing()) * HOUR_S == pytest.approx(3.0)


def test_it_pays_only_while_the_plan_stands_long_enough():
    found = market(a=1.0, b=0.4)
    assert potential(found).due([standing()])
    assert not potential(found, horizon_s=30.0).due([standing()])


def test_without_load_and_fleet_nothing_is_due():
    idle = replace(standing(0.0), mix_rps=np.zeros(1))
    assert not potential(market(b=0.1)).due([idle])


def test_what_the_solver_could_not_find_is_not_looked_for_again():
    gain = potential(market(a=1.0, b=0.4))
    gain.looked([standing()], saved_usd_per_s=0.0)
    assert not gain.due([standing()])
    assert not gain.due([standing(8.0)])  # twice the load, as little to gain from each request
    assert gain.due([standing(8.0, work=0.3)])


def test_after_a_move_only_what_it_left_over_is_not_looked_for():
    gain = potential(market(a=1.0, b=0.4))
    before, after = standing(4.0), standing(1.8)  # 2.8 and 0.6 $/h over the least
    saved = (before.usd_per_s - after.usd_per_s) * 0.98
    gain.looked([before], saved)
    assert not gain.due([replace(after, high=before.high)])
    assert gain.due([replace(before, high=before.high)])


def test_misses_for_want_of_stock_count():
    short = replace(standing(out=("a",)), usd_per_s=20.0 / HOUR_S)
    stocked = market(a=1.0, b=1.2)
    assert not potential(stocked).due([standing(work=1.0, out=("a",))])
    assert potential(stocked).due([short])
