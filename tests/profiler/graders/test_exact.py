"""Exact match looks past case, marks at the edges and articles, and at nothing else."""

from __future__ import annotations

import pytest

from profiler.graders.exact import ExactGrader, normalise
from profiler.questions import Question


def question(*answers: str) -> Question:
    return Question(prompt="?", answer=answers, grader="exact")


@pytest.mark.parametrize(
    "response",
    [
        "Tokyo",
        " tokyo. ",
        "**Tokyo**",
        "The answer is Tokyo.",
        "It is in Japan.\nTokyo",
        "\\boxed{Tokyo}",
    ],
)
async def test_the_answer_alone_or_stated_is_right(response):
    assert (await ExactGrader().grade(question("Kyoto", "Tokyo"), response)).score == 1


@pytest.mark.parametrize("response", ["Osaka", "", "Tokyo is in Japan", "Not Tokyo"])
async def test_anything_else_is_wrong(response):
    grade = await ExactGrader().grade(question("Tokyo"), response)
    assert (grade.score, grade.answer) == (0, response or None)


def test_marks_inside_a_text_count():
    assert normalise("-5") != normalise("5")
    assert normalise("C++") != normalise("C")
    assert normalise("((d)") != normalise("d") == normalise("(d)") == normalise("'d'.")
    assert normalise("[1]") != normalise("1")
    assert normalise("...") != normalise("")
    assert normalise("The  Cat!") == normalise("cat")


def test_nothing_to_match_is_refused():
    with pytest.raises(ValueError, match="found nothing"):
        ExactGrader().check(question(" "))
