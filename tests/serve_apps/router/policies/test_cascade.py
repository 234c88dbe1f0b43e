"""A cascade escalates what the small models are likely to have wrong, and pays for every answer."""

from __future__ import annotations

import numpy as np
import pytest

from serve_apps.router.policies.base import Answer, NoFeasibleModelError
from serve_apps.router.policies.beliefs import Beliefs, fit_beliefs
from serve_apps.router.policies.cascade import Cascade
from tests.serve_apps.router.policies.asks import ask

RIGHT = Answer("small", "4", {"p_first": 0.9})


def learned(*, accept: tuple[str, ...] = ("small",), seed: int = 0) -> Beliefs:
    """Small is right half the time, medium 0.7, large 0.9; wrong answers hardly ever agree.

    The small one's ``p_first`` tells whether it is right, with noise.
    """
    rng = np.random.default_rng(seed)
    right = rng.random((500, 3)) < [0.5, 0.7, 0.9]
    answers = [
        [
            Answer(m, "4" if ok else str(rng.integers(10, 99)), {"p_first": float(sure)})
            for m, ok, sure in zip(
                ("small", "medium"), row[:2], rng.normal(0.4 + 0.4 * row[:2], 0.1), strict=True
            )
        ]
        for row in right
    ]
    prior = np.tile([0.5, 0.9], (500, 1))
    return fit_beliefs(
        ("small", "medium"), "large", prior, answers, right.astype(float), accept=accept
    )


@pytest.fixture(scope="module")
def beliefs() -> Beliefs:
    return learned()


def small(text: str = "4", p_first: float = 0.6) -> Answer:
    return Answer("small", text, {"p_first": p_first})


def medium(text: str = "4") -> Answer:
    return Answer("medium", text, {"p_first": 0.6})


def test_it_looks_first_where_looking_is_cheap(beliefs: Beliefs) -> None:
    choice = Cascade(beliefs, worth=30.0).choose(ask())
    assert (choice.model, choice.final) == ("small", False)


def test_no_probe_where_the_strong_model_costs_no_more(beliefs: Beliefs) -> None:
    choice = Cascade(beliefs, worth=30.0).choose(ask(price=(5.0, 5.0, 5.0)))
    assert (choice.model, choice.final) == ("large", True)


def test_a_sure_answer_stands_and_an_unsure_one_is_escalated(beliefs: Beliefs) -> None:
    # The medium model is too dear to ask.
    request = ask(price=(1.0, 100.0, 10.0))
    policy = Cascade(beliefs, worth=30.0)
    sure = policy.choose(request, [small(p_first=0.95)])
    assert (sure.model, sure.final, sure.stands) == ("small", True, 0)
    unsure = policy.choose(request, [small(p_first=0.25)])
    assert (unsure.model, unsure.final, unsure.stands) == ("large", True, None)


def test_between_the_two_it_asks_another_small_model(beliefs: Beliefs) -> None:
    choice = Cascade(beliefs, worth=30.0).choose(ask(price=(1.0, 0.5, 10.0)), [small()])
    assert (choice.model, choice.final) == ("medium", False)


def test_agreement_lets_an_answer_stand_and_disagreement_does_not(beliefs: Beliefs) -> None:
    policy = Cascade(beliefs, worth=30.0)
    assert policy.choose(ask(), [small(), medium("4.0")]).stands == 0
    assert policy.choose(ask(), [small(), medium("5")]).model == "large"


def test_a_probe_s_own_answer_stands_only_where_it_may(beliefs: Beliefs) -> None:
    seen = [small(p_first=0.1), medium("5")]
    poor = ask(worth=0.01)
    assert Cascade(beliefs, worth=1.0).choose(poor, seen).model == "small"
    anyone = learned(accept=())
    choice = Cascade(anyone, worth=1.0).choose(poor, seen)
    assert (choice.model, choice.stands) == ("medium", 1)


def test_worth_nothing_it_never_escalates_and_worth_all_it_does(beliefs: Beliefs) -> None:
    assert Cascade(beliefs, worth=0.0).choose(ask(), [small(p_first=0.2)]).model == "small"
    doubt = [small(p_first=0.2), medium("5")]
    assert Cascade(beliefs, worth=float("inf")).choose(ask(), doubt).model == "large"


def test_when_time_is_short_the_best_in_time_answers(beliefs: Beliefs) -> None:
    policy = Cascade(beliefs, worth=30.0)
    late = ask(feasible=(True, True, False))
    assert policy.choose(late).final
    assert policy.choose(late, [small()]).stands == 0
    with pytest.raises(NoFeasibleModelError):
        policy.choose(ask(feasible=(False, False, False)))


def test_signals_never_seen_do_not_break_it(beliefs: Beliefs) -> None:
    assert Cascade(beliefs, worth=30.0).choose(ask(), [Answer("small", "4")]).model
