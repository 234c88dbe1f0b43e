"""What a grader is, and what it says of a response."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from profiler.questions import Question

UNGRADED = math.nan


@dataclass(frozen=True)
class Grade:
    """A score in [0, 1], or NaN where no verdict could be had, and the answer that was found.

    A response without an answer in it is wrong (0) and has the answer None; ``note`` says why a
    response went ungraded.
    """

    score: float
    answer: str | None = None
    note: str = ""


class Grader(Protocol):
    """Compares a response with a question's answer."""

    @property
    def settings(self) -> str:
        """What else than the question decides a grade, such as which model judges."""

    def check(self, question: Question) -> None:
        """Refuse a question this grader cannot grade; raises ValueError saying why."""

    async def grade(self, question: Question, response: str) -> Grade:
        """Grade one response; never raises for what a model wrote."""


def answer_spans(text: str) -> list[str]:
    r"""Where a response states its answer, the surest first.

    The last ``\boxed{...}``, the line after the last ``####``, and what follows the last "answer
    is" or "answer:" up to the end of its line. Empty where a response does none of it.
    """
    spans = [boxed] if (boxed := last_boxed(text)) is not None else []
    if (at := text.rfind("####")) >= 0:
        spans.append(first_line(text[at:].lstrip("#")))
    if (match := _last_marker(text)) is not None:
        spans.append(match)
    return [s.strip() for s in spans if s.strip()]


def last_boxed(text: str) -> str | None:
    r"""What the last ``\boxed{...}`` holds, braces balanced; None without one."""
    start = max(text.rfind("\\boxed{"), text.rfind("\\fbox{"))
    if start < 0:
        return None
    begin = text.index("{", start) + 1
    depth = 1
    for i in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[i], 0)
        if depth == 0:
            return text[begin:i]
    return text[begin:]


def first_line(text: str) -> str:
    """The first line that holds anything."""
    return next((line for line in text.splitlines() if line.strip()), "")


def _last_marker(text: str) -> str | None:
    """What follows the last "answer is", "answer:", "answer =" and the like."""
    import re

    marker = re.compile(
        r"\banswer\b[*_\"'`)\]]*(?:\s+(?:to|for)\s+[^.:\n]{0,80}?)?"
        r"\s*(?:\bis\b\s*:?|\bwould be\b|\bmust be\b|:|=)[*_\"'`]*",
        re.IGNORECASE,
    )
    ends = [match.end() for match in marker.finditer(text)]
    return first_line(text[ends[-1] :]) if ends else None
