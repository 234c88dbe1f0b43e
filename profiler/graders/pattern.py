"""A regular expression searched for in the response, within a time limit.

A pattern with nested repeats can take longer than the universe on a few dozen characters. The
library `regex` stops at a deadline; the search runs in a thread of its own, so that answers of
other models are timed meanwhile as they come.
"""

from __future__ import annotations

import asyncio

from profiler.graders.base import UNGRADED, Grade
from profiler.questions import Question

TIMEOUT_S = 1.0
MAX_CHARACTERS = 200_000


class PatternGrader:
    """Right when any of the patterns is found; flags are written inline, such as ``(?i)``.

    The answer kept is the pattern's first group, or all it matched.
    """

    settings = ""

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s

    def check(self, question: Question) -> None:
        """Each answer must be a regular expression."""
        import regex

        for pattern in question.answers:
            try:
                regex.compile(pattern)
            except regex.error as error:
                raise ValueError(
                    f"answer: {pattern!r} is not a regular expression: {error}"
                ) from None

    async def grade(self, question: Question, response: str) -> Grade:
        """1 or 0; ungraded when the pattern takes too long on this response."""
        for pattern in question.answers:
            try:
                found = await asyncio.to_thread(self._search, pattern, response)
            except TimeoutError:
                return Grade(
                    UNGRADED,
                    note=f"the pattern {pattern!r} took over {self._timeout_s:g} s; "
                    "avoid repeats inside repeats",
                )
            if found is not None:
                return Grade(1.0, found)
        return Grade(0.0)

    def _search(self, pattern: str, response: str) -> str | None:
        import regex

        found = regex.search(
            pattern, response[:MAX_CHARACTERS], timeout=self._timeout_s, concurrent=True
        )
        if found is None:
            return None
        first = found[1] if found.re.groups else None
        return str(found[0] if first is None else first)
