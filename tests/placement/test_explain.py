"""An explanation: what each type is for, why others lost, what binds, what moving limits saves."""

from dataclasses import replace

import numpy as np
import pytest

from placement.explain import explain, losers, uses
from placement.fractional import fractional_optimum
from placement.ilp import solve
from placement.limits import Limits, ReplicaBound
from placement.planner import make_plan
from placement.problem import Option, Stock
from tests.builders import gpu, problem, profile, request_class
from tests.placement.test_prices import two_models

NAN = float("nan")


def on(gpu_name, usd_per_hour):
    return Option(profile(gpu=gpu_name), "on_demand", usd_per_hour)


def mixed(*extra, loads=(0.1, 0.2), **kwargs):
    """Short requests that a cheap type serves, and long prompts that only a dear one can.

    ``extra`` options bear ``loads`` of the short and the long.
    """
    classes = (request_class(29, 64, 64), request_class(2, 15000, 64))
    options = (on("slow", 0.3), on("fast", 4.0), *extra)
    kwargs.setdefault("gpus", {o.gpu: gpu(o.gpu) for o in options})
    short, long = [[load] * len(extra) for load in loads]
    load_s = np.array([[0.05, 0.1, *short], [NAN, 0.2, *long]])
    return replace(problem(classes, options, **kwargs), load_s=load_s)


def told(p, *, again=False):
    return explain(p, solve(p), resolve=solve if again else None)


def test_uses_say_who_serves_what_in_words_and_figures():
    by_gpu = {u.gpu: u for u in told(mixed()).uses}
    assert by_gpu["slow"].words == "short prompts"
    assert by_gpu["fast"].words == "long prompts"
    assert by_gpu["slow"].input_tokens == pytest.approx(64)
    assert sum(u.request_share for u in by_gpu.values()) == pytest.approx(1, abs=1e-5)
    assert sum(u.token_share for u in by_gpu.values()) == pytest.approx(1, abs=1e-5)
    assert by_gpu["fast"].token_share > by_gpu["fast"].request_share


def test_one_type_alone_serves_all_requests():
    (use,) = told(problem((request_class(3),), (on("A100", 2.0),))).uses
    assert (use.words, use.request_share) == ("all requests", 1.0)


def test_models_are_named_where_there_are_several():
    p = two_models()
    assert all(":" in u.words for u in uses(p, solve(p)))


def test_a_type_that_lost_names_the_price_at_which_it_would_pay():
    p = mixed(on("dear", 9.0))
    loser = next(x for x in told(p).losers if x.gpu == "dear")
    assert loser.usd_per_hour == 9.0
    # It does what the fast one does, at 4.00.
    assert loser.worth_usd_per_hour == pytest.approx(4.0)
    assert loser.reason == "1 x dear at $9.00/h would pay at $4.00/h (-56%)"


@pytest.mark.parametrize(
    ("usd_per_hour", "loads", "stocks", "words"),
    [
        (3.0, (0.1, 0.2), (Stock("other", "on_demand", 0),), "none to be had"),
        (4.0, (0.1, 0.2), (), "would do as well as what is rented"),
        (3.0, (NAN, NAN), (), "serves no size of request inside the SLO"),
        (9.0, (90.0, NAN), (), "would pay at $0.00/h (-100%)"),
    ],
)
def test_other_reasons_to_lose(usd_per_hour, loads, stocks, words):
    p = mixed(on("other", usd_per_hour), loads=loads, stocks=stocks)
    found = solve(p)
    at = [o.gpu for o in p.options].index("other")
    if found.replicas[at]:  # as good as another: take the fleet with that one instead
        replicas = found.replicas.copy()
        replicas[1], replicas[at] = replicas[at], 0
        shares = found.shares[:, [0, 2, 1]]
        found = replace(found, replicas=replicas, shares=shares)
    reasons = {x.gpu: x.reason for x in losers(p, found, fractional_optimum(p), None)}
    assert words in reasons["other"]


def test_a_type_that_holds_no_model_says_why():
    p = mixed(gpus={n: gpu(n) for n in ("slow", "fast", "tiny")}, misfits={"tiny": ("too small",)})
    assert [(x.gpu, x.reason) for x in told(p).losers] == [("tiny", "too small")]


def test_renting_a_loser_anyway_costs_what_planning_with_it_says():
    p = mixed(on("dear", 9.0))
    loser = next(x for x in told(p, again=True).losers if x.gpu == "dear")
    forced = solve(replace(p, limits=Limits(replicas=(ReplicaBound(minimum=1, gpu="dear"),))))
    more = forced.usd_per_hour - solve(p).usd_per_hour
    assert loser.forced_usd_per_hour == pytest.approx(more, abs=1e-6)
    assert more > 0


def test_a_stock_used_up_binds_and_one_more_saves_what_planning_again_finds():
    p = mixed(stocks=(Stock("slow", "on_demand", 1), Stock("fast", "on_demand", 50)))
    found = told(p, again=True)
    limits = {x.limit: x for x in found.limits}
    assert limits["stock of slow (on-demand)"].binds
    assert limits["stock of slow (on-demand)"].words == "1 of 1 slow (on-demand) in use"
    assert not limits["stock of fast (on-demand)"].binds
    more = {m.change: m for m in found.marginals}["one more slow"]
    two = mixed(stocks=(Stock("slow", "on_demand", 2), Stock("fast", "on_demand", 50)))
    saved = solve(p).usd_per_hour - solve(two).usd_per_hour
    assert more.resolved_usd_per_hour == pytest.approx(saved, abs=1e-6)
    assert more.shadow_usd_per_hour > 0


def test_a_quality_target_binds_and_less_of_it_saves():
    found = told(two_models(target=0.8), again=True)
    quality = next(x for x in found.limits if x.limit == "mean quality")
    assert quality.binds
    assert quality.used >= 0.8 - 1e-6
    less = next(m for m in found.marginals if "less mean quality" in m.change)
    assert less.shadow_usd_per_hour > 0


@pytest.mark.parametrize(
    ("limits", "name", "words"),
    [
        (Limits(spot_share=0.4), "spot share", "0% of accelerators on spot, 40% allowed"),
        (
            Limits(replicas=(ReplicaBound(minimum=2, gpu="fast"),)),
            "replicas.min of fast",
            "2 replicas of fast, at least 2",
        ),
        (
            Limits(replicas=(ReplicaBound(maximum=30, gpu="slow"),)),
            "replicas.max of slow",
            "replicas of slow, at most 30",
        ),
    ],
)
def test_other_limits_are_told(limits, name, words):
    told_limits = {x.limit: x for x in told(mixed(limits=limits)).limits}
    assert words in told_limits[name].words


def test_a_budget_binds_while_more_could_buy_better():
    p = two_models(target=None)
    p = replace(p, limits=Limits(budget_usd_per_hour=6.0))
    budget = next(x for x in told(p).limits if x.limit == "budget")
    assert budget.binds
    assert budget.used <= 6.0


def test_spare_capacity_for_a_lost_node_has_a_price():
    p = mixed(limits=Limits(node_loss_headroom=1.0))
    marginal = next(m for m in told(p, again=True).marginals if "lost node" in m.change)
    assert marginal.shadow_usd_per_hour is None
    saved = solve(p).usd_per_hour - solve(mixed()).usd_per_hour
    assert marginal.resolved_usd_per_hour == pytest.approx(saved, abs=1e-6)
    assert saved > 0


def test_a_plan_comes_with_prices_and_reasons_that_name_its_groups():
    plan = make_plan(mixed(), "chat")
    assert set(plan.prices.load) == {g.name for g in plan.groups}
    assert all(np.isfinite(v) for v in plan.prices.load.values())
    assert {name for u in plan.explanation.uses for name in u.groups} == set(plan.prices.load)
    assert all(m.resolved_usd_per_hour is None for m in plan.explanation.marginals)
    again = make_plan(mixed(), "chat", plan_again=True)
    assert all(m.resolved_usd_per_hour >= 0 for m in again.explanation.marginals)


def on_nodes(node_loss):
    """Two models on one type that is sold in nodes of eight, as many as survive a lost one."""
    options = tuple(
        Option(profile(model, "H100", tensor_parallel=2), "on_demand", 2.0, node_gpus=8)
        for model in ("m1", "m2")
    )
    classes = (request_class(2, stream="m1"), request_class(2, stream="m2"))
    return replace(
        problem(classes, options, limits=Limits(node_loss_headroom=node_loss)),
        stocks=(Stock("H100", "on_demand", 64, "", 8, 8.0),),
        load_s=np.array([[0.4, NAN], [NAN, 0.4]]),
    )


@pytest.mark.parametrize(("node_loss", "nodes"), [(None, 1), (1.0, 4)])
def test_whole_nodes_are_used_and_paid_whole(node_loss, nodes):
    p = on_nodes(node_loss)
    found = explain(p, solve(p))
    (stock,) = [x for x in found.limits if x.limit.startswith("stock of")]
    assert (stock.used, stock.allowed) == (8 * nodes, 64)
    assert [u.usd_per_hour for u in found.uses] == [8.0 * nodes]


def test_spot_is_not_priced_where_none_is_allowed():
    spot = Option(profile(gpu="cheap"), "spot", 0.1)
    p = mixed(spot, limits=Limits(spot_share=0.0))
    assert {x.gpu: x.reason for x in told(p).losers}["cheap"] == "spot.share allows none"
