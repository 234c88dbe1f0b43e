"""Plans that fall short in simulation are planned again with less headroom until they hold."""

from dataclasses import replace

import pytest

from orchestrator import verifying
from orchestrator.traffic import of_trace, scenario
from orchestrator.trying import try_plan
from orchestrator.verifying import verify
from placement.limits import Limits
from placement.planner import make_plan
from placement.problem import Option, RequestClass, Stock
from profiler.arrivals import BurstArrivals, PoissonArrivals
from profiler.generator import generate
from profiler.sizes import FixedTokens, SizeDistribution
from profiler.workload import workload_from_trace
from tests.builders import fitted, gpu, model, problem

SIZES = SizeDistribution(
    input_tokens=FixedTokens(tokens=1000), output_tokens=FixedTokens(tokens=150)
)
CALM = PoissonArrivals(rate_rps=3)
BURSTS = BurstArrivals(calm_rps=2, burst_rps=40, calm_s=40, burst_s=6)


def asked(arrivals, stock=None):
    """A problem planned for the median minute of a trace, and the trace's traffic."""
    trace = generate(arrivals, SIZES, 400, seed=1)
    rates = workload_from_trace(trace, plan_for="p50").rates
    made = problem(tuple(RequestClass("auto", r.bucket, r.rate_rps) for r in rates))
    stocks = () if stock is None else tuple(Stock(o.gpu, o.market, stock) for o in made.options)
    return replace(made, stocks=stocks), {"auto": of_trace(trace)}


def test_a_plan_that_holds_is_left_as_it_is():
    made, traffic = asked(CALM)
    found = verify(made, "s", traffic)
    record = found.record
    assert (record.holds, record.rounds, record.promise_usd_per_hour) == (True, 1, 0.0)
    assert record.headroom == {}
    assert found.mix.plan.cost.usd_per_hour == make_plan(made, "s").cost.usd_per_hour


@pytest.fixture(scope="module")
def bursty():
    made, traffic = asked(BURSTS)
    return made, traffic, verify(made, "s", traffic)


def test_bursts_make_it_buy_more_until_it_holds_on_seeds_it_has_not_seen(bursty):
    _, traffic, found = bursty
    record = found.record
    (stream,) = record.streams
    assert record.holds
    assert stream.before < 0.95 <= min(stream.worst, stream.expected_worst)
    assert record.promise_usd_per_hour == pytest.approx(
        found.mix.plan.cost.usd_per_hour - record.unverified_usd_per_hour
    )
    assert record.promise_usd_per_hour > 0
    assert set(record.headroom) <= {g.name for g in found.mix.plan.groups}
    unseen = try_plan(found.mix.plan, [scenario(traffic, 1000 + k) for k in range(3)])
    assert min(unseen.fared[0].shares) >= 0.95


def test_the_plan_made_of_it_is_the_plan_that_was_tried(bursty):
    made, _, found = bursty
    plan = found.stamp(make_plan(made, "s", found=found.mix))
    assert (plan.groups, plan.routes) == (found.mix.plan.groups, found.mix.plan.routes)
    assert plan.verification == found.record


def test_equal_calls_find_equal_plans(bursty):
    made, traffic, found = bursty
    assert verify(made, "s", traffic).record == found.record


def test_where_stock_ends_it_says_so_and_gives_the_best_it_tried():
    made, traffic = asked(BURSTS, stock=1)
    record = verify(made, "s", traffic).record
    assert not record.holds
    assert record.streams[0].worst < 0.95
    assert "no plan" in record.note


def test_under_a_budget_the_best_answers_that_held_are_kept(monkeypatch):
    small = model("small", total_params=3_000_000_000, active_params=3_000_000_000)
    options = tuple(Option(fitted(m, gpu()), "on_demand", 2.0) for m in (small, model("large")))
    made, traffic = asked(BURSTS)
    made = problem(
        made.classes,
        options,
        quality={"small": 0.5, "large": 0.9},
        limits=Limits(budget_usd_per_hour=6.0),
    )
    trials = []

    def watched(*args, **kwargs):
        trials.append(try_plan(*args, **kwargs))
        return trials[-1]

    monkeypatch.setattr(verifying, "try_plan", watched)
    found = verify(made, "s", traffic)
    held = {t.plan.quality.mean for t in trials if t.holds}
    assert found.mix.plan.quality.mean == max(held)
    assert len(held) > 1, "else there was nothing to choose"
    assert found.record.unverified_quality == trials[0].plan.quality.mean > max(held)
