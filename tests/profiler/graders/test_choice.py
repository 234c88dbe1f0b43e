"""The letter a response names is found however it is dressed; one that names none is wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.graders.choice import ChoiceGrader, find_choice
from profiler.questions import Question

CITIES = ("Paris", "London", "New York City", "York")


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("The answer is (C)", "C"),
        ("C.", "C"),
        ("**C**", "C"),
        ("\\boxed{C}", "C"),
        ("(b)", "B"),
        ("b", "B"),
        ("$\\boxed{\\text{B}}$", "B"),
        ("B) London", "B"),
        ("I think it is Paris", "A"),
        ("London", "B"),
        ("New York City", "C"),
        ("York.", "D"),
        ("Answer: c", "C"),
        ("A", "A"),
        ("**Answer:** C", "C"),
        ("The correct answer is option B.", "B"),
        ("The answer is A because of the tower", "A"),
        ("(A) is wrong; the answer is (B).", "B"),
        ("Option D is best", "D"),
        ("D is correct.", "D"),
        ("The answer is a bit hard to see. (D)", "D"),
        ("the answer is New York City.", "C"),
        ("Answer: **B. London**", "B"),
        ("Let me think.\nNot A. So:\nC", "C"),
        ("$C$", "C"),
        ("The answer is A.\nWait. The answer is D.", "D"),
        ("(A), (B) fail, which leaves (C)", "C"),
        ("(A) is wrong. Take D.\n\n**B**", "B"),
    ],
)
def test_a_named_choice_is_found(response, letter):
    assert find_choice(response, CITIES) == letter


@pytest.mark.parametrize(
    "response",
    ["", "I am not sure.", "A car is nice", "The answer is not clear", "E", "Paris or London"],
)
def test_a_response_that_names_none_is_none(response):
    assert find_choice(response, CITIES) is None


def test_without_listed_choices_ten_letters_are_known():
    assert find_choice("The answer is (J)") == "J"
    assert find_choice("The answer is (K)") is None


async def test_right_is_1_wrong_and_silent_0():
    grader = ChoiceGrader()
    question = Question(prompt="?", choices=CITIES, answer="london", grader="choice")
    grades = [await grader.grade(question, text) for text in ("B.", "(C)", "hm")]
    assert [(g.score, g.answer) for g in grades] == [(1.0, "B"), (0.0, "C"), (0.0, None)]


@pytest.mark.parametrize("answer", ["E", "Rome", "", ("A", "B")])
def test_an_answer_that_is_no_choice_is_refused(answer):
    question = Question(prompt="?", choices=CITIES, answer=answer, grader="choice")
    with pytest.raises(ValueError, match="expected a letter A-D or one of the choices"):
        ChoiceGrader().check(question)


@given(
    st.sampled_from("ABCD"),
    st.sampled_from(
        [
            "{}",
            "({})",
            "{}.",
            "**{}**",
            "The answer is {}.",
            "Final answer: ({})",
            "\\boxed{{{}}}",
            "Answer: {})",
            "Thinking of A and B.\n\n**Answer: {}**",
        ]
    ),
)
def test_every_letter_in_every_dress(letter, dress):
    assert find_choice(dress.format(letter), CITIES) == letter


@given(st.text(max_size=300))
def test_no_text_upsets_it(text):
    assert find_choice(text, CITIES) in {None, "A", "B", "C", "D"}
