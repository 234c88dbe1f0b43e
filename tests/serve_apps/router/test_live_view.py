"""Where what truly waits is known, prices follow it at once, and back."""

from __future__ import annotations

import pytest

from serve_apps.router.live import LivePrices
from tests import plan_builders


class View:
    """The wait of every group, over the SLO's TTFT."""

    def __init__(self) -> None:
        self.waits = 0.0

    def strain(self, group: str) -> float:
        return self.waits


def prices() -> tuple[LivePrices, View, list[float]]:
    now = [0.0]
    made, view = LivePrices(plan_builders.plan(), lambda: now[0]), View()
    made.heed(view)
    return made, view, now


def test_a_queue_is_felt_at_once_and_its_end_too() -> None:
    made, view, _ = prices()
    assert made.calm
    view.waits = 0.5
    assert made.now("a") > 5 * made.planned["a"]
    assert not made.calm
    view.waits = 0.0
    assert made.now("a") == made.planned["a"]
    assert made.calm


def test_a_longer_queue_costs_more() -> None:
    made, view, _ = prices()
    found = []
    for view.waits in (0.0, 0.1, 0.3, 1.0, 100.0):
        found.append(made.now("a"))
    assert found == sorted(set(found))
    assert found[-1] < float("inf")


def reckoned(view_waits: float) -> float:
    """The price ten seconds after half a minute of three times the work a group can do."""
    made, view, now = prices()
    view.waits = view_waits
    for second in range(40):
        made.add("a", 3.0 if second < 30 else 0.9)
        now[0] += 1.0
        made.tick()
    view.waits = 0.0
    return made.now("a")


def test_a_reckoned_queue_that_is_not_there_is_soon_forgotten() -> None:
    assert reckoned(0.0) == pytest.approx(prices()[0].planned["a"])
    assert reckoned(0.2) > reckoned(0.0)
