"""Whether two models gave the same answer, however each wrote it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from profiler.graders.exact import normalise
from profiler.graders.number import read_number

_LATEX = re.compile(r"\\(?:left|right|text|mathrm|mbox|displaystyle|[,!; ])")
_FRACTION = re.compile(r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}")
_NOISE = re.compile(r"[\s$\\{}'\"]")


def canonical(answer: str) -> str:
    """An extracted answer in the form in which equal answers are equal; "" for none.

    Numbers by value (``1,234.0`` and ``1234``), fractions however set, text without case,
    spacing, quotes and LaTeX's marks.
    """
    plain = _LATEX.sub("", _FRACTION.sub(r"\1/\2", answer)).strip()
    if not plain.strip("_ "):
        return ""
    if len(plain) < 40 and (number := read_number(plain)) is not None:
        return str(number.value)
    return _NOISE.sub("", normalise(plain))


def vote(answers: Sequence[str], weights: Sequence[float]) -> int:
    """The position of the answer with the most weight behind it, of equals the heaviest voter.

    Missing answers count only if all are missing. Weights are log-odds of being right: the
    optimal weights for independent voters (Nitzan and Paroush, 1982).
    """
    keys = [canonical(answer) for answer in answers]
    weight: dict[str, float] = defaultdict(float)
    for key, w in zip(keys, weights, strict=True):
        weight[key] += w
    said = [i for i, key in enumerate(keys) if key] or range(len(keys))
    return max(said, key=lambda i: (weight[keys[i]], weights[i], -i))
