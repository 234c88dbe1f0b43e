"""Prices are the plan's at the planned load, rise beyond what a group can do, and come back."""

import numpy as np

from placement.plan import Plan
from serve_apps.router.live import LivePrices
from tests.plan_builders import group, plan, route


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


LOAD_S = 0.5
PLANNED = plan((group("a", replicas=2),), (route({"a": 1.0}, rate_rps=2 * 0.85 / LOAD_S),))


def run(prices: LivePrices, clock: Clock, load: float, seconds: int, seed: int = 0) -> float:
    """Poisson arrivals at this share of what the group can do; the share of calm seconds."""
    rng = np.random.default_rng(seed)
    calm = 0
    for _ in range(seconds):
        for _ in range(rng.poisson(2 * load / LOAD_S)):
            prices.add("a", LOAD_S)
        clock.now_s += 1
        prices.tick()
        calm += prices.calm
    return calm / seconds


def made(p: Plan = PLANNED) -> tuple[LivePrices, Clock]:
    clock = Clock()
    return LivePrices(p, clock), clock


def test_chance_at_the_planned_load_moves_nothing() -> None:
    prices, clock = made()
    assert run(prices, clock, 0.8, 3000) > 0.99


def test_overload_raises_the_price_and_its_end_lowers_it() -> None:
    prices, clock = made()
    run(prices, clock, 1.5, 20)
    raised = prices.now("a")
    assert not prices.calm
    assert raised > 2 * prices.planned["a"]
    run(prices, clock, 2.0, 5)
    assert prices.now("a") > raised
    run(prices, clock, 0.1, 400)
    assert prices.calm
    assert prices.now("a") == prices.planned["a"]


def test_what_cannot_be_reckoned_is_not_counted() -> None:
    prices, clock = made()
    prices.add("a", float("inf"))
    clock.now_s += 5
    prices.tick()
    assert prices.calm
