"""Turns dealt for a whole load are those that the production router gives one by one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.simulation.load import Load
from orchestrator.simulation.routing import planned_groups
from placement.plan import Plan
from serve_apps.router.base import RouteRequest, UnknownModelError
from serve_apps.router.table import RouteTable
from tests import plan_builders

EDGES = (0, 100, 1000, 4000)
OUTPUTS = ((0, 50), (50, 500))


@st.composite
def plans(draw) -> Plan:
    """Up to six groups of two models, with odd shares, gaps between ranges and unused groups."""
    models = draw(st.lists(st.sampled_from(["m1", "m2"]), min_size=1, max_size=6))
    groups = tuple(plan_builders.group(f"g{i}", m, replicas=1 + i) for i, m in enumerate(models))
    weight = st.sampled_from([0.0, 0.1, 1 / 3, 0.5, 1.0, 7.0])
    routes = []
    for stream in draw(st.sets(st.sampled_from(["auto", *set(models)]))):
        able = [g.name for g in groups if stream in ("auto", g.config.model)]
        for inputs in draw(st.sets(st.sampled_from(list(itertools.pairwise(EDGES))))):
            for outputs in OUTPUTS:
                weights = draw(st.lists(weight, min_size=len(able), max_size=len(able)))
                total = sum(weights)
                if total:
                    shares = {g: w / total for g, w in zip(able, weights, strict=True)}
                    rate = draw(st.sampled_from([0.1, 1.0, 3.7]))
                    routes.append(plan_builders.route(shares, stream, inputs, outputs, rate))
    return plan_builders.plan(groups, tuple(routes))


def load(streams: tuple[str, ...], stream: list[int], inputs: list[int]) -> Load:
    size = len(stream)
    ones = np.ones(size, dtype=np.int64)
    return Load(
        np.zeros(size), np.array(inputs, dtype=np.int64), ones, ones,
        np.array(stream, dtype=np.int64), streams,
    )  # fmt: skip


def one_by_one(plan: Plan, asked: Load) -> list[int]:
    table, names = RouteTable(plan), [g.name for g in plan.groups]
    found = []
    for s, tokens in zip(asked.stream, asked.input_tokens, strict=True):
        try:
            decision = table.route(RouteRequest(asked.streams[s], int(tokens)))
            found.append(names.index(decision.group))
        except UnknownModelError:
            found.append(-1)
    return found


@given(plans(), st.data())
@settings(max_examples=60)
def test_every_request_gets_the_turn_that_the_route_table_would_give_it(plan, data):
    streams = ("auto", "m1", "m2")
    requests = data.draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(1, 5000)), min_size=1, max_size=80)
    )
    asked = load(streams, [s for s, _ in requests], [n for _, n in requests])
    names = tuple(g.name for g in plan.groups)
    assert planned_groups(RouteTable(plan), names, asked).tolist() == one_by_one(plan, asked)


def test_thousands_of_turns_do_not_drift():
    shares = {"g0": 0.123456, "g1": 0.376544, "g2": 0.5}
    groups = tuple(plan_builders.group(name) for name in shares)
    plan = plan_builders.plan(groups, (plan_builders.route(shares),))
    asked = load(("auto",), [0] * 5000, [10] * 5000)
    found = planned_groups(RouteTable(plan), tuple(shares), asked)
    assert found.tolist() == one_by_one(plan, asked)
    assert np.bincount(found) / 5000 == pytest.approx(list(shares.values()), abs=1 / 5000)
