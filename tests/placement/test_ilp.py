"""The placement ILP: optimal, inside every limit, and clear about what makes it impossible."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from placement.ilp import check, solve
from placement.problem import Option, Stock
from profiler.errors import InfeasibleError, OrchestratorError
from tests.builders import fitted, gpu, model, problem, profile, request_class, slo, step_time

CHEAP = gpu("A10G", 0.6, memory_gb=24, bandwidth_gb_per_s=600, fp16_tflop_per_s=70)
FAST = gpu("A100", 2.0)


def option(on, spec=None, market="on_demand", price=None):
    return Option(fitted(spec or model(), on), market, price or on.price.on_demand_usd_per_hour)


def brute_force(p):
    """The cheapest integers that carry one class, by trying them all."""
    rate, load = p.classes[0].rate_rps, p.load_s[0]
    tops = [math.ceil(rate * ell / p.headroom) if not math.isnan(ell) else 0 for ell in load]
    best = math.inf
    for n in itertools.product(*(range(t + 1) for t in tops)):
        capacity = sum(p.headroom * k / ell for k, ell in zip(n, load, strict=True) if k)
        if capacity >= rate * (1 - 1e-9):
            best = min(best, sum(k * o.usd_per_hour for k, o in zip(n, p.options, strict=True)))
    return best


@settings(max_examples=40)
@given(
    rate=st.floats(0.1, 30),
    inputs=st.integers(16, 4000),
    outputs=st.integers(2, 1000),
    price=st.floats(0.1, 5),
)
def test_the_answer_is_what_trying_every_fleet_finds(rate, inputs, outputs, price):
    p = problem((request_class(rate, inputs, outputs),), (option(FAST), option(CHEAP, price=price)))
    if np.isnan(p.load_s).all():
        return
    assert solve(p).usd_per_hour == pytest.approx(brute_force(p), rel=2e-4)


def test_the_bounds_are_below_the_cost():
    found = solve(problem((request_class(7), request_class(3, 4000, 50))))
    assert found.lp_bound_usd_per_hour <= found.lower_bound_usd_per_hour + 1e-6
    assert found.lower_bound_usd_per_hour <= found.usd_per_hour


def test_a_mix_beats_each_type_where_sizes_differ():
    classes = (request_class(100, 64, 64), request_class(1, 8000, 400))
    mixed = problem(classes, (option(FAST), option(CHEAP, price=0.1)))
    assert np.isnan(mixed.load_s[1, 1]), "the cheap type is too slow for the long prompts"
    assert (solve(mixed).replicas > 0).all()
    assert solve(mixed).usd_per_hour < solve(mixed.only("A100")).usd_per_hour


def test_stock_is_kept_and_pushes_the_rest_elsewhere():
    classes = (request_class(40),)
    free = solve(problem(classes))
    short = solve(problem(classes, stocks=(Stock("A100", "on_demand", 1),)))
    assert free.replicas[0] > 1
    assert short.replicas[0] <= 1
    assert short.replicas[1] > 0


def test_stock_counts_accelerators_not_replicas():
    big = model("llama-70b", total_params=70_000_000_000, active_params=70_000_000_000, layers=80)
    nvlink = gpu(
        "H100", 3.0, bandwidth_gb_per_s=3350, fp16_tflop_per_s=989, link="nvlink", link_gb_per_s=450
    )
    four = Option(fitted(big, nvlink, 4), "on_demand", 12.0)
    p = problem((request_class(1),), (four,), stocks=(Stock("H100", "on_demand", 3),))
    with pytest.raises(InfeasibleError, match="3 offered, 4 needed"):
        solve(p)


def test_missing_stock_is_named_with_the_least_that_would_do():
    p = problem(
        (request_class(40),), stocks=(Stock("A100", "on_demand", 0), Stock("A10G", "on_demand", 1))
    )
    with pytest.raises(InfeasibleError, match=r"stock of (A100|A10G).*offered.*needed"):
        solve(p)


def test_a_quality_target_buys_the_better_model():
    small, large = (
        model("small", total_params=3_000_000_000, active_params=3_000_000_000),
        model("large"),
    )
    options = (option(FAST, small), option(FAST, large))
    kwargs = {"quality": {"small": 0.5, "large": 0.8}}
    classes = (request_class(20),)
    cheap = solve(problem(classes, options, quality_target=0.5, **kwargs))
    good = solve(problem(classes, options, quality_target=0.7, **kwargs))
    assert cheap.shares[0, 0] == pytest.approx(1)
    assert good.shares[0] @ [0.5, 0.8] >= 0.7 - 1e-6
    assert good.usd_per_hour > cheap.usd_per_hour
    with pytest.raises(InfeasibleError, match=r"quality.mean: 0.9 asked, at most 0.8000"):
        solve(problem(classes, options, quality_target=0.9, **kwargs))


def test_a_named_model_gets_its_own_requests():
    options = (option(FAST, model("one")), option(FAST, model("two")))
    classes = (request_class(1, stream="one"), request_class(1, stream="two"))
    found = solve(problem(classes, options))
    assert found.shares.tolist() == [[1, 0], [0, 1]]


def test_a_wrong_answer_is_caught():
    p = problem()
    right = solve(p)
    wrong = type(right)(**{**vars(right), "replicas": right.replicas * 0})
    with pytest.raises(OrchestratorError, match="above its headroom"):
        check(p, wrong)


@settings(max_examples=25)
@given(
    rates=st.lists(st.floats(0.1, 40), min_size=1, max_size=4),
    less=st.floats(0.3, 1),
    looser=st.floats(1, 2),
    dearer=st.floats(1, 3),
)
def test_lower_rates_and_looser_targets_never_cost_more(rates, less, looser, dearer):
    sizes = [(64, 64), (1024, 256), (4000, 100), (300, 900)]

    def build(scale=1.0, target=None, price=1.0):
        classes = tuple(request_class(r * scale, *s) for r, s in zip(rates, sizes, strict=False))
        options = (option(FAST, price=2.0 * price), option(CHEAP, price=0.6 * price))
        return problem(classes, options, slo=target or slo())

    def cost_of(**change):
        return solve(build(**change), gap=0, lp_bound=False).usd_per_hour

    cost = cost_of()
    assert cost_of(scale=less) <= cost + 1e-6
    assert cost_of(target=slo(2 * looser, 0.06 * looser)) <= cost + 1e-6
    assert cost_of(price=dearer) == pytest.approx(cost * dearer)


def test_a_class_is_never_sent_where_it_cannot_be_served():
    slow = Option(profile(gpu="slow", law=step_time(base_s=0.2)), "on_demand", 0.01)
    fast = Option(profile(gpu="fast"), "on_demand", 5.0)
    found = solve(problem((request_class(),), (slow, fast)))
    assert found.replicas[0] == 0
    assert found.shares[0].tolist() == [0, 1]


@pytest.mark.parametrize("rate", [1e-9, 1e-6, 1e-3, 1.0, 1e4])
def test_any_rate_however_small_is_served(rate):
    sizes = [(64, 64), (1024, 256), (4000, 100), (300, 900), (100, 30)]
    shares = [0.7, 0.2, 0.0999, 1e-4, 1e-9]
    classes = tuple(request_class(rate * k, *s) for k, s in zip(shares, sizes, strict=True))
    found = solve(problem(classes))
    assert found.replicas.sum() >= 1
    assert (found.replicas[(found.shares > 0).any(axis=0)] > 0).all()


def test_only_the_limit_that_binds_is_named():
    small, large = model("small"), model("large")
    options = (option(FAST, small), option(CHEAP, large))
    p = problem(
        (request_class(2000), request_class(50, stream="small")),
        options,
        stocks=(Stock("A100", "on_demand", 1),),
        quality={"small": 0.5, "large": 0.7},
        quality_target=0.69,
    )
    with pytest.raises(InfeasibleError) as caught:
        solve(p)
    assert "stock of A100 (on-demand): 1 offered" in str(caught.value)
    assert "quality" not in str(caught.value)
