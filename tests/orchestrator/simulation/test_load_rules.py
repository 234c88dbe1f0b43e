"""The rules that the priced policy is set beside do what their words say."""

from __future__ import annotations

from collections import Counter

from orchestrator.simulation.load_policy import LoadState, ModelOption, Priced
from orchestrator.simulation.load_rules import (
    QueueRule,
    QueueSettings,
    Random,
    Scripted,
    Threshold,
)
from serve_apps.router.base import RouteRequest


def option(model: str = "large", quality: float = 0.9, **fields: object) -> ModelOption:
    known = {
        "price_usd": 0.0,
        "planned_price_usd": 0.0,
        "predicted_ttft_s": 0.1,
        "feasible": True,
        "group": model,
        "in_flight": 0,
        "queued": 0,
        "slots": 100,
    }
    return ModelOption(model=model, quality=quality, **(known | fields))  # type: ignore[arg-type]


def state(now_s: float = 0.0) -> LoadState:
    return LoadState(now_s, 1.0, RouteRequest("auto", 100))


SMALL = option("small", 0.6)


def test_random_keeps_its_mix_and_replaces_who_cannot_answer() -> None:
    rule = Random((0.25, 0.75), seed=1)
    counts = Counter(rule.choose([option(), SMALL], state()) for _ in range(4000))
    assert 0.22 < counts["large"] / 4000 < 0.28
    assert Random((1.0, 0.0)).choose([option(feasible=False), SMALL], state()) == "small"


def test_threshold_takes_the_smallest_that_loses_little() -> None:
    middle = option("middle", 0.88)
    assert Threshold(0.05).choose([option(), middle, SMALL], state()) == "middle"
    assert Threshold(0.01).choose([option(), middle, SMALL], state()) == "large"
    assert Threshold(0.5).choose([option(), middle, SMALL], state()) == "small"


def test_a_full_model_closes_and_opens_only_after_it_was_emptier_for_a_while() -> None:
    rule = QueueRule(QueueSettings(0.8, 0.4, hold_s=5.0, margin=-1.0), {"large": 10, "small": 99})

    def chosen(in_flight: int, now_s: float) -> str | None:
        return rule.choose([option(in_flight=in_flight), SMALL], state(now_s))

    assert chosen(8, 0) == "large"
    assert chosen(9, 1) == "small"
    assert chosen(6, 2) == "small"  # between the thresholds: hysteresis
    assert chosen(3, 3) == "small"
    assert chosen(3, 7) == "small"  # four seconds are not five
    assert chosen(3, 8) == "large"


def test_the_time_below_the_low_threshold_must_be_on_end() -> None:
    rule = QueueRule(QueueSettings(0.8, 0.4, hold_s=5.0, margin=-1.0), {"large": 10, "small": 99})
    told = [
        rule.choose([option(in_flight=n), SMALL], state(t))
        for n, t in ((9, 0), (3, 1), (5, 4), (3, 5), (3, 9), (3, 10))
    ]
    assert told == ["small"] * 5 + ["large"]


def test_nobody_left_is_a_refusal() -> None:
    gone = [option(feasible=False), option("small", feasible=False)]
    assert Threshold(0.1).choose(gone, state()) is None
    assert Priced(1.0).choose(gone, state()) is None


def test_a_script_is_followed_by_the_request_asked_about() -> None:
    rule = Scripted([1, 0], request=iter([1, 0]).__next__)
    assert [rule.choose([option(), SMALL], state()) for _ in range(2)] == ["large", "small"]


def test_an_answer_that_may_come_late_is_worth_less() -> None:
    sure, unsure = option("small", 0.8, in_time=0.99), option("large", 0.9, in_time=0.7)
    assert Priced(1.0).choose([unsure, sure], state()) == "small"
    assert Priced(1.0).choose([option("large", 0.9), sure], state()) == "large"
