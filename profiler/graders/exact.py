"""Exact match, but for case, marks around the text, leading articles and spacing."""

from __future__ import annotations

import re
import unicodedata

from profiler.graders.base import Grade, answer_spans, first_line
from profiler.questions import Question

_EDGES = " .,;:!?`*_"
_PAIRS = ('""', "''", "()", "“”", "‘’")
_ARTICLE = re.compile(r"^(?:a|an|the)\s+")


def normalise(text: str) -> str:
    """Text as it is compared; marks inside it, as in ``C++`` or ``-5``, count."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    spaced = " ".join(folded.split())
    bare = spaced.strip(_EDGES)
    while len(bare) > 2 and bare[0] + bare[-1] in _PAIRS:
        bare = bare[1:-1].strip(_EDGES)
    return _ARTICLE.sub("", bare) or bare or spaced


class ExactGrader:
    """Right when the whole response is an accepted answer, or states one.

    Stated: boxed, after ``####``, after "answer is", or as the last line alone.
    """

    settings = ""

    def check(self, question: Question) -> None:
        """An empty answer would match nothing a model says."""
        if not all(answer.strip() for answer in question.answers) or not question.answers:
            raise ValueError("answer: found nothing, expected the text to match")

    async def grade(self, question: Question, response: str) -> Grade:
        """1 or 0."""
        accepted = {normalise(answer) for answer in question.answers}
        last = first_line("\n".join(reversed(response.splitlines())))
        stated = [response, *answer_spans(response), last]
        for text in stated:
            if normalise(text) in accepted:
                return Grade(1.0, text.strip())
        found = stated[1] if len(stated) > 2 else last
        return Grade(0.0, found.strip() or None)
