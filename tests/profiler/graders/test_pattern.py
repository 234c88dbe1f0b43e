"""A pattern is searched for, and one that would take for ever ends, ungraded."""

from __future__ import annotations

import math

import pytest

from profiler.graders.pattern import PatternGrader
from profiler.questions import Question


def question(pattern: str) -> Question:
    return Question(prompt="?", answer=pattern, grader="regex")


async def test_found_is_right_and_its_first_group_is_the_answer():
    grade = await PatternGrader().grade(question(r"(?i)year:? (\d{4})"), "In Year 1969, then.")
    assert (grade.score, grade.answer) == (1.0, "1969")
    assert (await PatternGrader().grade(question(r"\d{4}"), "none")).score == 0.0


async def test_endless_backtracking_is_cut_off_and_not_counted_as_wrong():
    grade = await PatternGrader(timeout_s=0.05).grade(question(r"(a|aa)+$"), "a" * 60 + "b")
    assert math.isnan(grade.score)
    assert "repeats inside repeats" in grade.note


def test_what_is_no_pattern_is_refused():
    with pytest.raises(ValueError, match="not a regular expression"):
        PatternGrader().check(question("(unclosed"))
