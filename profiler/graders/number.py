r"""Numbers as people and models write them: ``$20.00``, ``1,234``, ``3/4``, ``1.5e3``, ``50%``.

Values are exact fractions, so that two integers match only when they are equal; a tolerance is
applied where either side has decimals or is a fraction.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from profiler.graders.base import Grade, answer_spans
from profiler.questions import Question

TOLERANCE = 1e-4
MAX_EXPONENT = 300

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d{1,400})(?:\.\d{1,400})?|\.\d{1,400}"
_NUMBER = re.compile(
    rf"""(?P<open>\(\s*(?=[$€£¥₹]))?                          # ($5) is minus five, in accounts
    (?P<sign>(?<![\w)\]}}.])[-+])?(?:(?:US)?[$€£¥₹]\s?)?
    (?P<inner>(?<=[$€£¥₹])-)?
    (?:\\[dt]?frac\s*\{{\s*(?P<top>-?\d{{1,40}})\s*\}}\s*\{{\s*(?P<bottom>\d{{1,40}})\s*\}}
      |(?<![\w^.])(?<!\^\{{)(?<!\^-)(?:(?P<whole>\d{{1,40}})\s+)?(?P<over>\d{{1,40}})\s?/\s?(?P<under>\d{{1,40}})(?![\d,./])
      |(?<![\w^])(?<!\^\{{)(?<!\d\.)(?P<digits>{_DIGITS})
       (?:(?:[eE]|\s*(?:×|x|\*|\\times|\\cdot)\s*10\s*(?:\^|\*\*)\s*\{{?)(?P<exponent>[-+]?\d{{1,4}})\}}?)?
    )(?:\s*(?P<percent>%|percent\b))?""",
    re.VERBOSE,
)
# Roots, pi, powers and terms in x: what they are worth is not read, so they are no number.
_NOT_PLAIN = re.compile(
    r"sqrt|√|\\pi|π|\\infty|∞|(?<![\d.])(?!10\b)\d+\s*\^|\d\s?[xyzn](?!\w|\s*\d)"
)
_WORD = re.compile(r"(?<![\\A-Za-z])(?!sqrt)[A-Za-z]{3,}")
_DIRECT = re.compile(r"^[\W_]*(?:(?:about|approximately|roughly|exactly|equal to|equals)[\W_]*)?$")


@dataclass(frozen=True)
class Number:
    """A value, whether it was written with a percent sign, and the text it was read from."""

    value: Fraction
    percent: bool
    text: str


class NumberGrader:
    """Right when the number the response settles on equals the answer.

    Integers must be equal; else ``tolerance`` (relative, 1e-4 unless the question says) applies.
    ``50%`` equals both 50 and 0.5. The decimal comma is not read: ``1,5`` is two numbers.
    """

    settings = ""

    def check(self, question: Question) -> None:
        """Each answer must be a number, and nothing but one."""
        for answer in question.answers:
            if read_number(answer) is None:
                raise ValueError(
                    f"answer: found {answer!r}, expected a number such as 20, $1,234.50, 3/4, 50% "
                    "or 6e23; use the grader exact or judge for others"
                )

    async def grade(self, question: Question, response: str) -> Grade:
        """1 or 0; a response without a number is wrong."""
        found = find_number(response)
        if found is None:
            return Grade(0.0)
        tolerance = TOLERANCE if question.tolerance is None else question.tolerance
        rights = [n for answer in question.answers if (n := read_number(answer)) is not None]
        return Grade(float(any(same(found, n, tolerance) for n in rights)), found.text)


def same(found: Number, right: Number, tolerance: float = TOLERANCE) -> bool:
    """Whether two numbers agree; a percent sign on one side alone may mean either reading."""
    values = [found.value]
    if found.percent != right.percent:
        values.append(found.value / 100 if found.percent else found.value * 100)
    return any(_close(value, right.value, tolerance) for value in values)


def read_number(text: str) -> Number | None:
    """A text that is one number, with at most a name before ``=`` and a unit after it."""
    plain = re.sub(r"^\s*[A-Za-z]\w*\s*=\s*", "", _plain(text))
    found = _numbers(plain)
    if len(found) != 1 or _NOT_PLAIN.search(plain):
        return None
    before = plain[: plain.find(found[0].text)]
    return None if re.search(r"\w", before) else found[0]


def find_number(response: str) -> Number | None:
    """The number a response settles on.

    From what it states as its answer (boxed, after ``####``, after "answer is"): the number that
    comes first there, or after its last ``=``. Else the last number of the response.
    """
    for span in answer_spans(response):
        if _NOT_PLAIN.search(span.rpartition("=")[2]):
            return None
        if found := _stated(_plain(span)):
            return found
    if _NOT_PLAIN.search(response) and not _WORD.search(response):
        return None
    numbers = _numbers(_plain(response))
    return numbers[-1] if numbers else None


def _stated(span: str) -> Number | None:
    after_equals = _numbers(span.rpartition("=")[2])
    if "=" in span and after_equals:
        return after_equals[0]
    found = _numbers(span)
    if not found:
        return None
    # "is 15 because 12 + 3" opens with its number; "is the sum of 12 and 3, so 15" ends with it.
    return found[0] if _DIRECT.match(span[: span.find(found[0].text)].lower()) else found[-1]


def _numbers(plain: str) -> list[Number]:
    return [n for match in _NUMBER.finditer(plain) if (n := _read(match)) is not None]


def _read(match: re.Match[str]) -> Number | None:
    part = match.groupdict()
    if part["top"]:
        value = _ratio(part["top"], part["bottom"])
    elif part["over"]:
        value = _ratio(part["over"], part["under"])
        value = None if value is None else value + int(part["whole"] or 0)
    else:
        exponent = int(part["exponent"] or 0)
        if abs(exponent) > MAX_EXPONENT:
            return None
        value = Fraction(part["digits"].replace(",", "")) * Fraction(10) ** exponent
    if value is None:
        return None
    closed = bool(part["open"]) and match.string[match.end() :].lstrip().startswith(")")
    minus = closed or part["inner"] == "-" or (part["sign"] or "").startswith("-")
    return Number(-value if minus else value, bool(part["percent"]), match.group().strip())


def _ratio(top: str, bottom: str) -> Fraction | None:
    return Fraction(int(top), int(bottom)) if int(bottom) else None


def _close(a: Fraction, b: Fraction, tolerance: float) -> bool:
    if a.denominator == b.denominator == 1:
        return a == b
    return abs(a - b) <= Fraction(tolerance) * max(abs(a), abs(b))


def _plain(text: str) -> str:
    r"""LaTeX and typographic marks as plain ones: ``1{,}234``, ``\$5``, ``50\%``, ``−3``."""
    text = re.sub(r"\\(?:text|mathrm|mathbf|textbf|mbox)\s*\{([^{}]*)\}", r" \1 ", text)
    text = text.replace("{,}", ",").replace("\\,", "").replace("\\!", "").replace("−", "-")
    text = re.sub(r"(?<=\d)[\u2009\u202f\u00a0](?=\d{3}(?!\d))", "", text)
    text = re.sub(r"\^\{?\\circ\}?|°", " ", text)
    text = re.sub(r"\\([$%#])", r"\1", text)
    return re.sub(r"(?<=[$€£¥₹])\*{1,2}(?=\d)|(?<=\d)\*{1,2}(?=%)", "", text)
