"""A plan: never dearer than one GPU type alone, complete, and able to say why."""

from dataclasses import replace

import pytest
from pydantic import ValidationError

from placement import planner
from placement.ilp import TimeLimitError, solve
from placement.limits import Limits, ReplicaBound, Switching
from placement.plan import ExpectedQuality, Plan
from placement.planner import make_plan, mix
from placement.problem import Option, Stock, dns_name
from profiler import documents
from profiler.errors import InfeasibleError
from tests.builders import problem, profile, request_class, slo, step_time
from tests.placement.problems import loaded, option
from tests.placement.test_prices import two_models


def plan(p=None, **kwargs):
    return make_plan(p or problem(**kwargs), "chat")


def slow(base_s=0.2):
    return Option(profile(gpu="slow", law=step_time(base_s=base_s)), "on_demand", 0.01)


def fast():
    return Option(profile(gpu="fast"), "on_demand", 5.0)


@pytest.mark.parametrize("rate", [0.2, 3, 17, 90])
def test_the_plan_costs_no_more_than_the_best_single_type(rate):
    found = plan(classes=(request_class(rate, 64, 64), request_class(rate / 5, 6000, 300)))
    alone = [a.usd_per_hour for a in found.alternatives if a.usd_per_hour is not None]
    assert found.cost.usd_per_hour <= min(alone)
    assert 0 <= found.cost.gap <= 1e-3


def test_routes_cover_every_request_and_name_only_groups_of_the_plan():
    found = plan(classes=(request_class(9, 64, 64), request_class(4, 6000, 300)))
    groups = {g.name for g in found.groups}
    assert [r.rate_rps for r in found.routes] == [9, 4]
    for route in found.routes:
        assert sum(route.shares.values()) == pytest.approx(1, abs=1e-5)
        assert set(route.shares) <= groups


def test_cost_adds_up():
    found = plan(classes=(request_class(9),))
    assert sum(g.total_usd_per_hour for g in found.groups) == pytest.approx(found.cost.usd_per_hour)
    million_tokens_per_hour = 9 * (1024 + 256) * 3600 / 1e6
    assert found.cost.usd_per_million_tokens == pytest.approx(
        found.cost.usd_per_hour / million_tokens_per_hour, rel=1e-4
    )


def test_no_group_is_planned_above_the_headroom():
    found = plan(classes=(request_class(50),), headroom=0.6)
    assert all(g.load <= 0.6 + 1e-4 for g in found.groups)


def test_a_type_that_cannot_serve_says_which_limit_it_breaks():
    found = plan(options=(slow(), fast()))
    reason = {a.gpu: a.reason for a in found.alternatives}["slow"]
    assert "cannot serve 100.00% of requests" in reason
    assert "TPOT is 200.2 ms with no other load, limit 60 ms" in reason


def test_a_slo_no_gpu_meets_is_infeasible_and_names_the_limit():
    with pytest.raises(InfeasibleError) as caught:
        plan(options=(slow(),))
    assert "keeps the SLO for 100.0% of the requests" in str(caught.value)
    assert "TPOT is 200.2 ms" in str(caught.value)
    assert caught.value.exit_code == 3


def test_a_model_that_fits_nowhere_says_so():
    p = problem(options=(), misfits={"L4": ("llama does not fit: needs 140 GB",)})
    with pytest.raises(InfeasibleError, match="L4: llama does not fit: needs 140 GB"):
        plan(p)


def test_a_few_requests_too_long_are_excluded_and_named():
    tiny = Option(profile(max_model_len=4096), "on_demand", 1.0)
    found = plan(classes=(request_class(99), request_class(1, 8000, 100)), options=(tiny,))
    (excluded,) = found.excluded
    assert excluded.rate_rps == 1
    assert "8100 tokens exceed the 4096" in excluded.reason
    with pytest.raises(InfeasibleError, match=r"3\.0% of the requests"):
        plan(classes=(request_class(97), request_class(3, 8000, 100)), options=(tiny,))


def test_what_is_left_out_is_made_up_for_by_the_rest():
    tiny = Option(profile(max_model_len=4096), "on_demand", 1.0)
    whole = plan(classes=(request_class(98),), options=(tiny,))
    rest = plan(classes=(request_class(98), request_class(2, 8000, 100)), options=(tiny,))
    assert rest.slo == whole.slo
    assert rest.groups[0].load * rest.groups[0].replicas > (
        whole.groups[0].load * whole.groups[0].replicas
    )


def test_no_model_with_traffic_of_its_own_is_left_out():
    hosted = Option(profile("one"), "on_demand", 1.0)
    p = problem(
        (request_class(50, stream="one"), request_class(1, stream="two")),
        (hosted,),
        misfits={"L4": ("two does not fit: needs 140 GB",)},
    )
    with pytest.raises(InfeasibleError, match=r"two: .*no GPU type offered can hold(.|\n)*140 GB"):
        plan(p)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda d: d["routes"][0].update(shares=dict.fromkeys(d["routes"][0]["shares"], 0.1)),
            "expected 1",
        ),
        (lambda d: d["routes"][0].update(shares={"gone": 1.0}), "'gone', which is no group"),
        (lambda d: d["groups"].append(d["groups"][0]), "two are named"),
        (lambda d: d.update(models={}), "'llama-8b', which"),
        (lambda d: d.update(gpus={}), "'A100', which"),
        (lambda d: d["routes"][0].update(stream="x"), "no model is named 'x'"),
        (lambda d: d.update(service=".."), "service"),
        (lambda d: d.update(version=2), "version"),
    ],
)
def test_a_plan_edited_into_nonsense_is_refused(change, message):
    data = plan(classes=(request_class(9),)).model_dump(mode="json")
    change(data)
    with pytest.raises(ValidationError, match=message):
        Plan.model_validate(data)


def test_without_time_the_best_single_type_stands_in(monkeypatch):
    real = planner.solve

    def out_of_time(p, **kwargs):
        if len({o.gpu for o in p.options}) > 1:
            raise TimeLimitError("no plan found")
        return real(p, **kwargs)

    monkeypatch.setattr(planner, "solve", out_of_time)
    found = plan(classes=(request_class(9),))
    assert found.cost.usd_per_hour == min(a.usd_per_hour for a in found.alternatives)
    assert 0 < found.cost.lower_bound_usd_per_hour <= found.cost.usd_per_hour


def test_short_stock_of_a_single_type_is_its_reason():
    p = problem(classes=(request_class(40),), stocks=(Stock("A100", "on_demand", 1),))
    reasons = {a.gpu: a.reason for a in plan(p).alternatives}
    assert "1 offered" in reasons["A100"]


def test_a_plan_file_reads_back_the_same(tmp_path):
    found = plan(classes=(request_class(9), request_class(2, 6000, 300)), slo=slo(3, 0.08))
    path = tmp_path / "plan.yaml"
    documents.write(path, documents.dump(found))
    again = documents.read(path, Plan)
    assert again == found
    assert again.digest == found.digest


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("llama-3.1-8b-A100-80GB-tp1", "llama-3-1-8b-a100-80gb-tp1"),
        ("3b", "m-3b"),
        ("Qwen/Qwen3_x", "qwen-qwen3-x"),
    ],
)
def test_group_names_are_valid_labels(text, label):
    assert dns_name(text) == label


def test_long_names_stay_distinct():
    one, two = dns_name("a" * 60 + "1"), dns_name("a" * 60 + "2")
    assert one != two
    assert len(one) <= 47


def test_under_a_budget_a_cheaper_and_worse_fleet_is_not_called_the_plan():
    options = (option("A", 1.0, model="small"), option("B", 3.0, model="large"))
    budget = Limits(budget_usd_per_hour=9.0)
    found = plan(loaded(options, rates=(4.0,), quality=[0.5, 0.9], limits=budget))
    assert found.quality == ExpectedQuality(mean=0.7, bound=0.7)
    reasons = {a.gpu: a.reason for a in found.alternatives}
    assert reasons["A"] == "alone -50.0%, expected quality 0.5000"
    assert "budget_usd_per_hour: 9 asked, 12.00 needed" in reasons["B"]


def test_a_single_type_that_breaks_a_limit_of_the_mix_does_not_stand_in_for_it():
    must = Limits(replicas=(ReplicaBound(1, None, gpu="B"),))
    found = plan(loaded((option("A", 1.0), option("B", 3.0)), rates=(4.0,), limits=must))
    assert {g.config.gpu: g.replicas for g in found.groups} == {"A": 3, "B": 1}
    assert min(a.usd_per_hour for a in found.alternatives) == 4.0


def test_a_group_is_planned_no_fuller_than_its_own_headroom():
    asked = problem()
    tightened = replace(asked, headroom_of={o.name: 0.2 for o in asked.options})
    plan = make_plan(tightened, "s")
    assert max(g.load for g in plan.groups) <= 0.2 + 1e-4
    assert plan.cost.usd_per_hour > make_plan(asked, "s").cost.usd_per_hour


def test_a_mix_found_before_is_explained_as_it_is():
    asked = problem()
    found = mix(asked, "s")
    plan = make_plan(asked, "s", found=found)
    assert (plan.groups, plan.routes) == (found.plan.groups, found.plan.routes)
    assert plan.explanation is not None
    assert 0 < plan.cost.lp_bound_usd_per_hour <= plan.cost.usd_per_hour


def test_remarks_do_not_change_what_is_deployed_but_shares_do():
    found = plan(classes=(request_class(9), request_class(2, 6000, 300)), slo=slo(3, 0.08))
    silent = found.model_copy(update={"explanation": None, "notes": (), "alternatives": ()})
    assert silent.digest == found.digest
    fewer = found.model_copy(update={"routes": found.routes[:1]})
    assert fewer.digest != found.digest


def test_a_single_type_pays_for_stopping_what_runs_of_the_others():
    p = problem((request_class(5),))
    keep, other = sorted(p.options, key=lambda o: o.usd_per_hour)
    moving = Switching({keep.name: 8}, stop_usd=7.0)
    plan = make_plan(replace(p, limits=Limits(switching=moving)), "s")
    assert plan.cost.switching_usd_per_hour == 0
    alone = {a.gpu: a for a in plan.alternatives}
    assert alone[keep.gpu].switching_usd_per_hour == 0
    assert alone[other.gpu].switching_usd_per_hour == 8 * 7.0
    assert alone[other.gpu].usd_per_hour < plan.cost.usd_per_hour, "its rent alone would win"
    more = (alone[other.gpu].usd_per_hour + 56) / plan.cost.usd_per_hour - 1
    assert alone[other.gpu].reason == f"alone {more:+.1%} with its moves"


def test_under_a_budget_better_answers_are_preferred_to_a_lower_cost():
    p = two_models(target=None)
    found = solve(replace(p, limits=Limits(budget_usd_per_hour=20.0)))
    worse = replace(found, quality=found.quality - 0.1, usd_per_hour=found.usd_per_hour / 2)
    assert found.preference < worse.preference
    without = replace(found, quality_bound=None), replace(worse, quality_bound=None)
    assert without[0].preference > without[1].preference
