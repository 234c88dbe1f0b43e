"""A fleet is changed where, and only where, the money says so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.autoscale.economics import Now, Worth, choose
from orchestrator.autoscale.forecast import WEIGHTS, Path
from tests.orchestrator.autoscale.test_pools import pool

COLD = 100.0
ONE = pool([[1.0]])  # a replica carries one request, that is one dollar of work, a second
SURE = np.zeros(31)
USUAL = Worth()


def path(*loads, errors=SURE):
    weights = np.where(np.arange(len(WEIGHTS)) < 31, 1 / 31, 0.0)  # nothing unheard of
    base = float(np.mean(loads))
    return Path(np.array(loads, dtype=float), errors, weights, base, np.inf, base)


def now(ready, starting=0, least=0, most=100, budget=np.inf):
    ready, starting = np.atleast_1d(ready), np.atleast_1d(starting) * np.ones_like(ready)
    size = len(ready)
    return Now(
        ready.astype(float),
        starting.astype(float),
        np.full(size, least),
        np.full(size, most),
        budget,
    )


def chosen(load_path, fleet, worth=USUAL, p=ONE, lengths=None):
    stages = np.full(len(load_path.mean), COLD) if lengths is None else np.array(lengths)
    cold = np.full(len(p.groups), COLD)
    return choose(p, p.planned_rps, load_path, stages, cold, fleet, worth)


def test_a_load_that_is_sure_gets_as_many_as_it_needs():
    found = chosen(path(*[3.0] * 11), now(1))
    assert found.replicas.tolist() == [3]
    assert found.saving_usd > 0
    assert found.saving_usd == pytest.approx(-(found.rent_usd + found.miss_usd))


def test_a_fleet_that_fits_stays():
    found = chosen(path(*[3.0] * 11), now(3))
    assert found.replicas.tolist() == [3]
    assert found.saving_usd == 0


@pytest.mark.parametrize("lull", [1, 2])
def test_a_lull_shorter_than_a_restart_is_worth_is_sat_out(lull):
    loads = [1.0] * lull + [3.0] * (11 - lull)
    assert chosen(path(*loads), now(3), Worth(drain_s=COLD)).replicas.tolist() == [3]


def test_a_long_lull_is_not():
    assert chosen(path(*[1.0] * 11), now(3)).replicas.tolist() == [1]


def test_a_rise_is_prepared_one_cold_start_ahead():
    assert chosen(path(1.0, *[3.0] * 10), now(1)).replicas.tolist() == [3]
    assert chosen(path(1.0, 1.0, *[3.0] * 9), now(1)).replicas.tolist() == [1]


@settings(deadline=None, max_examples=30)
@given(st.floats(1.5, 40), st.integers(0, 1000))
def test_in_the_long_run_the_margin_is_the_newsvendors(miss, seed):
    """With moves for free, one more is had while the chance to need it exceeds 1 / worth."""
    errors = np.sort(np.random.default_rng(seed).normal(0, 0.4, 31))
    uncertain = path(*[8.0] * 11, errors=errors)
    worth = Worth(miss=miss, drain_s=0.0)
    count = int(chosen(uncertain, now(0), worth, lengths=[1.0] + [1e5] * 10).replicas[0])
    loads = uncertain.loads(1)[:31]

    def gain(n):  # of the n-th replica, per second
        return miss * np.mean(np.clip(loads - (n - 1), 0, 1)) - 1

    assert gain(count) > -1e-3
    assert gain(count + 1) < 1e-3


def test_more_is_held_where_overload_spoils_all():
    errors = np.linspace(-0.5, 0.5, 31)
    uncertain = path(*[6.0] * 11, errors=errors)
    sheds = chosen(uncertain, now(6), Worth(miss=3.0)).replicas[0]
    spoils = chosen(uncertain, now(6), Worth(miss=3.0, shedding=False)).replicas[0]
    assert sheds < spoils


def test_an_idle_model_goes_to_zero_and_comes_back():
    assert chosen(path(*[0.0] * 11), now(2)).replicas.tolist() == [0]
    assert chosen(path(*[1.0] * 11), now(0)).replicas.tolist() == [1]


def test_limits_and_budget_are_kept():
    many = path(*[9.0] * 11)
    assert chosen(many, now(1, most=4)).replicas.tolist() == [4]
    assert chosen(many, now(1, budget=5.5)).replicas.tolist() == [5]
    assert chosen(path(*[0.0] * 11), now(3, least=2)).replicas.tolist() == [2]


def test_the_cheaper_type_is_taken_and_the_other_where_it_cannot_be_had():
    two = pool([[1.0, 1.0]], usd=[2.0, 1.0])
    two = replace(two, planned_rps=np.ones(1))
    load = path(*[3.0] * 11)
    assert chosen(load, now([0, 0]), p=two).replicas.tolist() == [0, 3]
    short = Now(np.zeros(2), np.zeros(2), np.zeros(2, dtype=int), np.array([100, 1]))
    assert chosen(load, short, p=two).replicas.tolist() == [2, 1]


def test_what_a_likely_revision_calls_back_is_not_stopped_for_a_moment():
    # Two replicas are idle; in one way of three both are needed again soon, and for long.
    quiet, soon = replace(path(*[1.0] * 3), base=4.0), [COLD / 10, COLD / 10, 20 * COLD]
    assert chosen(quiet, now(3), lengths=soon).replicas.tolist() == [1]
    wandering = replace(quiet, revisions=np.array([0.0, 0.0, 0.5]))
    assert wandering.revised(0.5).mean.tolist() == [3.0] * 3
    assert chosen(wandering, now(3), lengths=soon).replicas.tolist() == [3]
    assert chosen(wandering, now(1), lengths=soon).replicas.tolist() == [1]
