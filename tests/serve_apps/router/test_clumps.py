"""An answer is expected to meet more prompts than a steady stream's where arrivals clump."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from serve_apps.router.clumps import MEMORY_S, Clumps

TOKENS = 100.0


def watched(arrivals_s: Iterable[float], groups: tuple[str, ...] = ("a",)) -> Clumps:
    """By groups in turn; an answer takes a second."""
    made = Clumps(dict.fromkeys(groups, 1.0))
    for i, at_s in enumerate(arrivals_s):
        made.came(float(at_s), TOKENS, groups[i % len(groups)])
    return made


def clumped(size: int, every_s: float, until_s: float = 200.0) -> list[float]:
    return np.repeat(np.arange(0.0, until_s, every_s), size).tolist()


def test_nothing_is_expected_of_what_never_came() -> None:
    assert Clumps({"a": 1.0}).excess_tokens("a") == 0.0
    assert watched([5.0]).excess_tokens("a") == 0.0


@pytest.mark.parametrize("rate_rps", [0.1, 2.0, 50.0])
def test_steady_streams_hold_no_more_than_their_rate_tells(rate_rps: float) -> None:
    even = np.arange(0.0, 200.0, 1 / rate_rps)
    assert watched(even).excess_tokens("a") == 0.0
    for seed in range(5):
        chance = np.random.default_rng(seed).uniform(0.0, 200.0, round(200 * rate_rps))
        assert watched(np.sort(chance)).excess_tokens("a") == 0.0


def test_each_of_a_clump_meets_half_of_the_others() -> None:
    met = watched(clumped(size=21, every_s=10.0)).excess_tokens("a")
    assert 0.5 * 10 * TOKENS < met < 10 * TOKENS
    assert met < watched(clumped(size=41, every_s=10.0)).excess_tokens("a")


def test_a_group_meets_its_part() -> None:
    arrivals = clumped(size=20, every_s=10.0)
    alone, shared = watched(arrivals), watched(arrivals, ("a", "b"))
    half = alone.excess_tokens("a") / 2
    assert shared.excess_tokens("a") == pytest.approx(half)
    assert shared.excess_tokens("b") == pytest.approx(half)


def test_long_answers_meet_clumps_that_short_ones_miss() -> None:
    made = Clumps({"short": 0.01, "long": 2.0})
    for i, at_s in enumerate(np.repeat(np.arange(0.0, 200.0, 10.0), 20).tolist()):
        made.came(at_s + 0.1 * (i % 20), TOKENS, ("short", "long")[i % 2])
    assert made.excess_tokens("short") < made.excess_tokens("long")


def test_clumps_are_forgotten() -> None:
    arrivals = clumped(size=20, every_s=10.0)
    later = np.arange(arrivals[-1] + 1, arrivals[-1] + 1 + 10 * MEMORY_S, 0.5)
    assert watched(arrivals).excess_tokens("a") > 0.0
    assert watched([*arrivals, *later]).excess_tokens("a") == 0.0


def test_a_clock_that_goes_back_does_no_harm() -> None:
    assert np.isfinite(watched([10.0, 3.0, 3.0, 11.0]).excess_tokens("a"))
