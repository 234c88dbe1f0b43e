"""Multiple choice: which letter a response names, in the many ways models name one."""

from __future__ import annotations

import re

from profiler.graders.base import Grade, answer_spans, first_line
from profiler.graders.exact import normalise
from profiler.questions import LETTERS, Question

LETTERS_UNLESS_LISTED = 10
_WRAPPED = re.compile(r"^\\(?:text|mathrm|mathbf|textbf)\s*\{([^{}]*)\}")
_MARKS = " \t*_`\"'$“”‘’>"
_LEAD = re.compile(
    r"^(?:the\s+)?(?:(?:correct|right|best)\s+)?(?:option|choice|letter)?\s*:?\s*", re.I
)
_LETTER = re.compile(
    r"""^(?:\(\s*(?P<round>[A-Za-z])\s*\)|\[\s*(?P<square>[A-Za-z])\s*\]
        |(?P<upper>[A-Z])(?=$|[.,:;)*_`"'}\]/\\$]|\s)
        |(?P<lower>[a-z])(?=$|[.:)*_`"'}\]]))""",
    re.VERBOSE,
)
# "A" and "I" are words too: with a small word after them they are a letter only before these.
_WORD_AFTER = re.compile(r"^[AI]\s+(?!(?:because|since|as|and|for|is|which|due|with|or)\b)[a-z]")
_SAYS_SO = re.compile(
    r"\b(?:option|choice|letter)\s*:?\s*[*_\"'`]*\(?([A-Z])\)?(?![A-Za-z])"
    r"|(?:^|[^A-Za-z])\(?([A-Z])\)?\s+is\s+(?:the\s+)?(?:correct|right|best)\b"
)
_DENIED = re.compile(r"^\W*[A-Z]\W+(?:is|are)\s+(?:not|wrong|incorrect|false)\b")
_STANDING_OUT = re.compile(r"\(([A-Z])\)|\*\*\(?([A-Z])\)?[.:)]?(?:\*\*|\s)")


class ChoiceGrader:
    """Right when the response names the right choice, by letter or in full."""

    settings = ""

    def check(self, question: Question) -> None:
        """The answer must be one of the choices."""
        _right(question)

    async def grade(self, question: Question, response: str) -> Grade:
        """1 or 0; a response that names no choice is wrong."""
        found = find_choice(response, question.choices)
        return Grade(float(found == _right(question)), found)


def find_choice(response: str, choices: tuple[str, ...] | None = None) -> str | None:
    r"""The letter a response settles on; None where it names none.

    In order: what it states as its answer (boxed, "the answer is (C)"), a letter that opens the
    response ("C.", "**C**"), "option C" or "C is correct", a choice written out in full, a last
    line that is a letter, the last letter that stands out as "(C)" or "**C**".
    """
    letters = LETTERS[: len(choices) if choices else LETTERS_UNLESS_LISTED]
    for span in answer_spans(response):
        if found := _opening(span, letters) or _written_out(span, choices):
            return found
    if found := _on_its_own(first_line(response), letters):
        return found
    if found := _last(_SAYS_SO, response, letters) or _written_out(response, choices):
        return found
    last = first_line("\n".join(reversed(response.splitlines())))
    return _on_its_own(last, letters) or _last(_STANDING_OUT, response, letters)


def _on_its_own(line: str, letters: str) -> str | None:
    """The letter a line opens with, unless it denies that one or names others too."""
    named = {"".join(filter(None, match.groups())) for match in _STANDING_OUT.finditer(line)}
    found = None if _DENIED.match(line) else _opening(line, letters)
    return found if named <= {found} else None


def _opening(text: str, letters: str) -> str | None:
    """The letter a text begins with, if it does."""
    text = _WRAPPED.sub(r"\1", text.strip(_MARKS)).strip(_MARKS)
    text = _LEAD.sub("", text).strip(_MARKS)
    match = _LETTER.match(text)
    if match is None or _WORD_AFTER.match(text):
        return None
    letter = next(g for g in match.groups() if g).upper()
    return letter if letter in letters else None


def _written_out(text: str, choices: tuple[str, ...] | None) -> str | None:
    """The one choice whose text stands in full in ``text``; None for none, or for several."""
    if not choices:
        return None
    plain = normalise(text)
    texts = [normalise(choice) for choice in choices]
    if plain in texts:
        return LETTERS[texts.index(plain)]
    found = set()
    for i in sorted(range(len(texts)), key=lambda i: -len(texts[i])):
        # The longest first, taken out once found: "14 days" is not also "4 days".
        plain, hits = re.subn(rf"(?<!\w){re.escape(texts[i])}(?!\w)", " ", plain)
        found |= {i} if hits and texts[i] else set()
    return LETTERS[found.pop()] if len(found) == 1 else None


def _last(pattern: re.Pattern[str], text: str, letters: str) -> str | None:
    found = ["".join(g for g in match.groups() if g) for match in pattern.finditer(text)]
    return next((letter for letter in reversed(found) if letter in letters), None)


def _right(question: Question) -> str:
    """The letter of the right choice; ValueError where the answer is none."""
    answer = question.answers[0].strip() if len(question.answers) == 1 else ""
    letters = LETTERS[: len(question.choices) if question.choices else len(LETTERS)]
    if len(answer) == 1 and answer.upper() in letters and answer not in (question.choices or ()):
        return answer.upper()
    texts = [normalise(choice) for choice in question.choices or ()]
    if texts.count(normalise(answer)) == 1:
        return LETTERS[texts.index(normalise(answer))]
    choices = f" or one of the choices' texts, {[*question.choices]}" if question.choices else ""
    raise ValueError(
        f"answer: found {question.answer!r}, expected a letter {letters[0]}-{letters[-1]}{choices}"
    )
