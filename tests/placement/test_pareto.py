"""Cost against a limit: what planning at each setting gives, never dearer for a looser one."""

from dataclasses import replace

import pytest

from placement.ilp import solve
from placement.limits import Limits, Switching
from placement.moved import with_quality
from placement.pareto import pareto
from placement.problem import Option, Stock
from profiler.errors import InputError
from tests.builders import fitted, gpu, model, problem, request_class
from tests.placement.test_prices import two_models


def costs(curve):
    return [p.usd_per_hour for p in curve.points if p.usd_per_hour is not None]


def chat(**kwargs):
    return problem((request_class(9, 128, 128), request_class(3, 1500, 300)), **kwargs)


def test_quality_runs_from_the_best_within_reach_to_what_the_cheapest_plan_has():
    p = two_models(target=0.75)
    curve = pareto(p, "quality", 5)
    values = [x.value for x in curve.points]
    assert values == sorted(values, reverse=True)
    assert values[0] == pytest.approx(0.9)
    assert [x.value for x in curve.points if x.asked] == [0.75]
    assert costs(curve) == sorted(costs(curve), reverse=True)
    assert costs(curve)[-1] == pytest.approx(solve(with_quality(p, "auto", None)).usd_per_hour)
    asked = next(x for x in curve.points if x.asked)
    assert asked.usd_per_hour == pytest.approx(solve(p).usd_per_hour)


@pytest.mark.parametrize("over", ["ttft", "tpot"])
def test_a_looser_latency_target_never_costs_more(over):
    curve = pareto(chat(), over, 7)
    values = [x.value for x in curve.points]
    assert values == sorted(values)
    assert len(values) == 7
    assert values[-1] == pytest.approx(16 * values[0], rel=1e-2)
    assert costs(curve) == sorted(costs(curve), reverse=True)
    assert sum(x.asked for x in curve.points) == 1
    assert all(x.lower_bound_usd_per_hour <= x.usd_per_hour for x in curve.points if x.usd_per_hour)


def test_settings_without_a_plan_are_kept_and_named():
    p = chat(stocks=(Stock("A100", "on_demand", 1), Stock("A10G", "on_demand", 0)))
    curve = pareto(p, "tpot", 5)
    without = [x for x in curve.points if x.usd_per_hour is None]
    assert without
    assert all(x.reason and not x.replicas for x in without)
    assert curve.points[0].usd_per_hour is None, "the strictest is the hardest"


def test_requests_left_out_are_told():
    cheap = gpu("A10G", 0.6, memory_gb=24, bandwidth_gb_per_s=600, fp16_tflop_per_s=70)
    p = problem(
        (request_class(99, 128, 128), request_class(1, 20000, 20)),
        (Option(fitted(model(), cheap), "on_demand", 0.6),),
    )
    curve = pareto(p, "ttft", 7)
    assert {x.excluded_share for x in curve.points if x.usd_per_hour} == {0.0, 0.01}


def test_one_model_has_no_quality_to_trade():
    with pytest.raises(InputError, match="nothing to trade it for"):
        pareto(chat(), "quality")


def test_over_quality_a_budget_is_what_the_curve_is_about():
    p = two_models(target=None)
    bought = replace(p, limits=Limits(budget_usd_per_hour=0.0))
    assert costs(pareto(bought, "quality", 3)) == costs(pareto(p, "quality", 3))


def test_what_moving_costs_counts():
    p = chat()
    (rented,) = [o for o, n in zip(p.options, solve(p).replicas, strict=True) if n][:1]
    running = Switching({rented.name: 9}, stop_usd=100.0)
    for point in pareto(replace(p, limits=Limits(switching=running)), "tpot", 3).points:
        if point.usd_per_hour is not None:
            total = point.usd_per_hour + point.switching_usd_per_hour
            assert point.lower_bound_usd_per_hour <= total
            assert point.replicas[rented.name] == 9
