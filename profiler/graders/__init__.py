"""Graders by name. A new one is one file here and one line in `GRADERS`.

| name | answer | right when |
| --- | --- | --- |
| exact | text, or several | response or stated answer is one of them, but for case and marks |
| choice | a letter, or a choice's text | the response names that choice |
| number | a number | the response's number is the same: `$20.00` is 20, 1,234 is 1234, 50% is 0.5 |
| regex | a pattern | it is found in the response |
| judge | a reference answer | another model says so |
"""

from __future__ import annotations

from collections.abc import Mapping

from profiler.errors import UnknownNameError
from profiler.graders.base import UNGRADED, Grade, Grader
from profiler.graders.choice import ChoiceGrader
from profiler.graders.exact import ExactGrader
from profiler.graders.number import NumberGrader
from profiler.graders.pattern import PatternGrader
from profiler.questions import Question

GRADERS: Mapping[str, Grader] = {
    "exact": ExactGrader(),
    "choice": ChoiceGrader(),
    "number": NumberGrader(),
    "regex": PatternGrader(),
}
JUDGE = "judge"
"""The one grader that needs more than the question: see `profiler.graders.judge`."""


def check(question: Question) -> None:
    """Refuse a question whose grader is unknown, or cannot grade it.

    Raises:
        ValueError: says why.
    """
    if question.tolerance is not None and question.grader != "number":
        raise ValueError("tolerance is for the grader number alone")
    if question.grader == JUDGE:
        return
    if question.grader not in GRADERS:
        raise ValueError(str(UnknownNameError("grader", question.grader, [*GRADERS, JUDGE])))
    GRADERS[question.grader].check(question)


__all__ = ["GRADERS", "JUDGE", "UNGRADED", "Grade", "Grader", "check"]
