"""A plan says whether it holds, on what, and what that has cost."""

from orchestrator.plan_page import page
from orchestrator.verification_report import missed_line, verification_lines
from placement.plan import ExpectedQuality
from placement.verification import TriedStream, Verification
from tests import builders, plan_builders


def record(**kwargs):
    tried = TriedStream(
        stream="auto", slo=builders.slo(), trace=0.97, mean=0.975, worst=kwargs.pop("worst", 0.96),
        expected_worst=0.955, before=0.83,
    )  # fmt: skip
    return Verification(
        **{
            "holds": True, "streams": (tried,), "rounds": 4, "seeds": (1, 2), "requests": 1000,
            "unverified_usd_per_hour": 10.0, "promise_usd_per_hour": 2.5,
        }
        | kwargs
    )  # fmt: skip


def lines(**kwargs):
    plan = plan_builders.plan().model_copy(update={"verification": record(**kwargs)})
    return plan, "\n".join(verification_lines(plan))


def test_a_plan_that_holds_says_so_and_what_the_promise_costs():
    _, text = lines()
    assert "holds in simulation: 96.0% of requests" in text
    assert "the promise costs $2.50/h (+25.0%)" in text
    assert "reached 83.0%; 4 plans tried" in text


def test_one_that_does_not_says_why_and_by_how_much():
    plan, text = lines(holds=False, worst=0.91, note="no more stock")
    assert "DOES NOT HOLD" in text
    assert "no more stock" in text
    assert "91.00% of requests met the SLO in simulation, expected 95.00%" in missed_line(
        plan.verification
    )


def test_the_page_tells_the_same():
    plan, _ = lines()
    assert "the promise costs $2.50/h" in page(plan)


def test_a_plan_not_tried_says_nothing():
    assert list(verification_lines(plan_builders.plan())) == []


def test_under_a_budget_the_promise_is_paid_in_quality():
    plan, _ = lines(unverified_quality=0.78, promise_usd_per_hour=-1.0)
    bought = ExpectedQuality(mean=0.73, bound=0.73)
    text = "\n".join(verification_lines(plan.model_copy(update={"quality": bought})))
    assert "the promise costs 0.0500 of quality: the best plan, of quality 0.7800" in text


def test_streams_of_one_name_are_told_apart_by_their_slo():
    (tried,) = record().streams
    other = tried.model_copy(update={"slo": builders.slo(6.0, 0.08)})
    _, text = lines(streams=(tried, other), requests=1)
    assert "auto in 2 s, 60 ms 96.0%" in text
    assert "auto in 6 s, 80 ms 96.0%" in text
    assert "of 1 request and" in text
