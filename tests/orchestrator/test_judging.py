"""Every arrival is judged by the SLO of its class, and counts whether it was answered or not."""

import numpy as np
import pytest

from orchestrator.judging import judge, met
from orchestrator.simulation.events import Event
from orchestrator.simulation.run import Conditions, simulate
from orchestrator.simulator import attainment
from tests import builders, plan_builders
from tests.profiler.traces_for_tests import a_trace


def test_without_own_targets_it_is_the_attainment_of_the_plans_slo():
    plan = plan_builders.plan()
    timings = simulate(plan, a_trace(np.arange(40) * 0.02))
    (kept,) = judge(plan, timings)
    assert kept.both == attainment(timings, plan.slo)
    assert kept.by_group == {"a": (40, round(40 * kept.both))}


def test_requests_that_are_lost_or_rejected_are_misses():
    plan = plan_builders.plan()
    sizes = [100] * 9 + [5000]  # the last is longer than the context
    trace = a_trace(np.arange(10.0), sizes, [10] * 10)
    gone = Conditions(replace=False)
    timings = simulate(plan, trace, events=[Event(4.5, "die", "a")], conditions=gone)
    (kept,) = judge(plan, timings)
    assert kept.requests == 10
    assert kept.both == pytest.approx(0.5)


def test_a_class_with_an_slo_of_its_own_is_judged_by_it():
    strict = builders.slo(ttft_s=1e-6)
    routes = (
        plan_builders.route({"a": 1.0}, inputs=(0, 200)),
        plan_builders.route({"a": 1.0}, inputs=(200, 1000)).model_copy(update={"slo": strict}),
    )
    plan = plan_builders.plan(routes=routes)
    timings = simulate(plan, a_trace(np.arange(4.0), [100, 300, 100, 300]))
    by_slo = {k.slo: k for k in judge(plan, timings)}
    assert by_slo[strict].both == 0.0
    assert by_slo[plan.slo].both == 1.0
    assert met(plan, timings).both.tolist() == [True, False, True, False]


def test_streams_are_judged_apart():
    routes = (
        plan_builders.route({"a": 1.0}, "auto"),
        plan_builders.route({"a": 1.0}, "m1"),
    )
    plan = plan_builders.plan(routes=routes)
    traces = {"auto": a_trace((0.0, 1.0)), "m1": a_trace((0.0, 1.0, 2.0), [5000] * 3)}
    assert {k.stream: (k.requests, k.both) for k in judge(plan, simulate(plan, traces))} == {
        "auto": (2, 1.0),
        "m1": (3, 0.0),
    }
