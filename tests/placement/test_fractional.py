"""The fractional optimum: its duals add up, and say at what price an option would pay."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from placement.fractional import cost_problem, fractional_optimum
from placement.ilp import lp_bound_usd_per_hour, solve
from placement.moved import with_slo, with_stock
from placement.problem import Option, Stock
from tests.builders import fitted, gpu, model, problem, request_class, slo
from tests.placement.test_prices import problems, two_models

TYPES = (
    gpu("A100", 2.0),
    gpu("A10G", 0.6, memory_gb=24, bandwidth_gb_per_s=600, fp16_tflop_per_s=70),
    gpu("H100", 5.0, bandwidth_gb_per_s=3350, fp16_tflop_per_s=989),
)


def offers():
    return tuple(
        Option(fitted(model(), g), "on_demand", g.price.on_demand_usd_per_hour) for g in TYPES
    )


def chat(**kwargs):
    classes = (request_class(40, 128, 128), request_class(9, 1500, 300), request_class(2, 6000, 90))
    return problem(classes, offers(), **kwargs)


@settings(max_examples=15)
@given(problems)
def test_class_prices_and_the_quality_asked_add_up_to_the_cost(p):
    found = fractional_optimum(p)
    target = p.limits.quality_mean["auto"]
    total = found.class_usd_per_hour(p, p.load_s).sum() + found.duals["quality_0"] * target
    assert total == pytest.approx(found.usd_per_hour, rel=1e-6)
    assert found.usd_per_hour <= lp_bound_usd_per_hour(p) * (1 + 1e-9)


@settings(max_examples=5)
@given(problems)
def test_an_option_pays_below_its_break_even_price_and_not_above(p):
    found = fractional_optimum(p)
    for r, even in enumerate(found.break_even_usd_per_hour):
        if found.replicas[r] > 1e-6 or even <= 0.01 or even > 0.999 * p.options[r].usd_per_hour:
            continue
        for factor, pays in ((0.98, True), (1.02, False)):
            priced = [
                replace(o, usd_per_hour=even * factor) if i == r else o
                for i, o in enumerate(p.options)
            ]
            moved = fractional_optimum(replace(p, options=tuple(priced)))
            assert (moved.usd_per_hour < found.usd_per_hour * (1 - 1e-9)) == pays


def test_what_is_rented_is_worth_its_price():
    p = chat()
    found = fractional_optimum(p)
    for option, n, even in zip(
        p.options, found.replicas, found.break_even_usd_per_hour, strict=True
    ):
        assert even <= option.usd_per_hour * (1 + 1e-9)
        if n > 1e-6:
            assert even == pytest.approx(option.usd_per_hour)


def test_the_dual_of_a_stock_is_what_one_more_saves_at_most():
    def limited(count):
        return chat(stocks=(Stock("H100", "on_demand", count),))

    free = fractional_optimum(chat())
    assert free.replicas[2] > 1, "the test needs a type that is wanted"
    p = limited(0)
    found = fractional_optimum(p)
    more = fractional_optimum(with_stock(p, p.stocks[0], 1))
    saved = found.usd_per_hour - more.usd_per_hour
    assert 0 < saved <= found.duals["stock_0"] * (1 + 1e-9)


@pytest.mark.parametrize(("ttft", "tpot"), [(0.1, 0.0), (0.0, 0.01), (1.0, 0.05), (0.0, 0.0)])
def test_old_prices_at_new_loads_bound_what_a_looser_slo_saves(ttft, tpot):
    p = chat(slo=slo(tpot_s=0.04))
    found = fractional_optimum(p)
    moved = with_slo(
        p, lambda s: s.model_copy(update={"ttft_s": s.ttft_s + ttft, "tpot_s": s.tpot_s + tpot})
    )
    saved = found.usd_per_hour - fractional_optimum(moved).usd_per_hour
    bound = found.saving_usd_per_hour(p, moved.load_s)
    assert -1e-9 <= saved <= bound + 1e-9
    assert (bound > 0) == bool(tpot), "TPOT is what limits the rates here"


def test_a_budget_gives_way_to_the_quality_it_bought():
    p = two_models(target=None)
    p = replace(p, limits=replace(p.limits, budget_usd_per_hour=6.0))
    found = solve(p)
    asked = cost_problem(p, found.shares)
    assert asked.limits.budget_usd_per_hour is None
    assert asked.limits.quality_mean["auto"] == pytest.approx(found.quality)
    assert fractional_optimum(asked).usd_per_hour <= found.usd_per_hour + 1e-9
    assert np.isfinite(fractional_optimum(asked).load_usd_per_hour).all()
