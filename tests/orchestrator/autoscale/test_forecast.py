"""A forecast follows levels, jumps and seasons, and is as unsure as it was wrong before."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from orchestrator.autoscale.forecast import Forecaster
from orchestrator.autoscale.season import DAY_S, SLOT_S, Season

AHEAD = np.array([100.0, 300.0])


def fed(loads, season=None, interval_s=20.0, start_s=0.0):
    f = Forecaster(100.0, season or Season())
    for k, load in enumerate(loads):
        f.observe(start_s + (k + 1) * interval_s, interval_s, load)
    return f, start_s + len(loads) * interval_s


def noisy(level, count, sigma, seed=0):
    return level * np.exp(np.random.default_rng(seed).normal(0, sigma, count))


def test_a_steady_load_is_foretold_and_becomes_sure():
    f, now_s = fed([5.0] * 400)
    path = f.path(now_s, AHEAD)
    assert path.mean == pytest.approx([5.0, 5.0])
    assert path.exceeded(0, 0.05) == pytest.approx(5.0, rel=0.01)


def test_uncertainty_is_that_of_the_load():
    calm, now_s = fed(noisy(5.0, 400, 0.05))
    wild, _ = fed(noisy(5.0, 400, 0.6))
    seen = [f.path(now_s, AHEAD).exceeded(0, 0.1) for f in (calm, wild)]
    assert 5.0 < seen[0] < 6.0 < seen[1]


def test_a_level_that_wanders_moves_its_forecast_and_noise_does_not():
    rng = np.random.default_rng(0)
    wandering, now_s = fed(5.0 * np.exp(np.cumsum(rng.normal(0, 0.1, 600)) % 1.0))
    noise, _ = fed(noisy(5.0, 600, 0.3))
    moves = [np.ptp(f.path(now_s, AHEAD).revisions) for f in (wandering, noise)]
    assert moves[0] > 2 * moves[1] > 0
    path = noise.path(now_s, AHEAD)
    means = [path.revised(r).mean[0] for r in path.revisions]
    assert means == sorted(means)
    assert means[0] < path.mean[0] < means[-1]


def test_something_never_seen_has_a_small_chance():
    f, now_s = fed([5.0] * 400)
    path = f.path(now_s, AHEAD)
    assert path.weights.sum() == pytest.approx(1.0)
    assert path.exceeded(0, 1e-3) > 10.0


def test_a_jump_is_half_believed_at_once_and_wholly_when_it_lasts():
    f, now_s = fed([2.0] * 300)
    for _ in range(2):
        now_s += 20
        f.observe(now_s, 20, 10.0)
    assert 5.0 < f.path(now_s, AHEAD).mean[0] < 9.0
    for _ in range(8):
        now_s += 20
        f.observe(now_s, 20, 10.0)
    assert f.path(now_s, AHEAD).mean[0] == pytest.approx(10.0, rel=0.1)


def test_a_burst_that_is_over_is_not_the_level_that_larger_ones_are_feared_from():
    f, now_s = fed(noisy(2.0, 100, 0.07))
    before = f.path(now_s, AHEAD).exceeded(0, 1e-3)
    for load in [*noisy(10.0, 6, 0.03), *noisy(2.0, 3, 0.07)]:
        now_s += 20
        f.observe(now_s, 20, load)
    after = f.path(now_s, AHEAD)
    assert after.mean[0] < 3.5
    assert after.exceeded(0, 1e-3) < 1.4 * before


def test_a_season_foretells_a_rise_that_levels_cannot():
    def usual(time_s):
        return 10 + 8 * math.sin(2 * math.pi * time_s / DAY_S)

    season = Season.of((t, usual(t)) for t in np.arange(-2 * DAY_S, 0, SLOT_S))
    today = [1.5 * usual(k * 20.0) for k in range(500)]
    knowing, now_s = fed(today, season)
    ahead = np.array([1800.0])
    assert knowing.path(now_s, ahead).mean[0] == pytest.approx(1.5 * usual(now_s + 1800), rel=0.1)


def test_a_season_takes_a_day_to_learn_and_then_has_its_shape():
    season = Season()
    for slot in range(143):
        season.observe((slot + 1) * SLOT_S, SLOT_S, 1.0 + (slot >= 72))
        assert season.known == (slot > 0.9 * 144)
    assert season.at(DAY_S + 30 * SLOT_S) == pytest.approx(1.0)
    assert season.at(3 * DAY_S + 100 * SLOT_S) == pytest.approx(2.0)


def test_two_weeks_tell_weekdays_apart():
    days = np.arange(14)
    season = Season.of(
        (d * DAY_S + s * SLOT_S, 5.0 if d % 7 < 5 else 1.0) for d in days for s in range(144)
    )
    assert season.at(14 * DAY_S + 40_000) == pytest.approx(5.0)
    assert season.at(19 * DAY_S + 40_000) == pytest.approx(1.0)


def test_what_it_knows_can_be_put_down_and_taken_up():
    f, now_s = fed(noisy(5.0, 150, 0.3))
    again = Forecaster(100.0, Season())
    again.restore(json.loads(json.dumps(f.state())))
    for g in (f, again):
        g.observe(now_s + 20, 20, 7.0)
    one, other = f.path(now_s + 20, AHEAD), again.path(now_s + 20, AHEAD)
    assert one.mean.tolist() == other.mean.tolist()
    assert one.errors.tolist() == other.errors.tolist()
