"""Reads of a PromQL expression what a test needs: metrics, their matchers, grouping labels."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

KEYWORDS = {"by", "and", "or", "unless", "on", "ignoring", "group_left", "bool"}
_TOKEN = re.compile(
    r"""(?P<string>"(?:\\.|[^"\\])*")|(?P<range>\[[^\]]*\])|(?P<number>\d[\w.]*)"""
    r"""|(?P<word>\$?[A-Za-z_:][\w:]*)|(?P<op>=~|!~|!=|>=|<=|==|[-+*/%^<>=(){},])|(?P<space>\s+)"""
)


@dataclass
class Use:
    """A metric in an expression: the sample's name, its matchers, the labels it is grouped by."""

    name: str
    matchers: dict[str, str] = field(default_factory=dict)
    by: set[str] = field(default_factory=set)


def read(expression: str) -> list[Use]:
    """Every use of a metric.

    Raises:
        ValueError: something is not PromQL.
    """
    tokens = _tokens(expression)
    uses: list[Use] = []
    depth, groupings = 0, []  # (depth of the operand, labels)
    i = 0
    while i < len(tokens):
        kind, text = tokens[i]
        after = tokens[i + 1][1] if i + 1 < len(tokens) else ""
        if text == "by":
            end = next(j for j in range(i, len(tokens)) if tokens[j][1] == ")")
            labels = {t for k, t in tokens[i + 2 : end] if k == "word"}
            assert tokens[end + 1][1] == "(", expression
            groupings.append((depth + 1, labels))
            i = end + 1
            continue
        if text == "(":
            depth += 1
        elif text == ")":
            depth -= 1
            groupings = [(d, labels) for d, labels in groupings if d <= depth]
        elif kind == "word" and text not in KEYWORDS and after not in ("(", "by"):
            use = Use(text, by=groupings[-1][1] if groupings else set())
            if after == "{":
                end = next(j for j in range(i, len(tokens)) if tokens[j][1] == "}")
                inside = tokens[i + 2 : end]
                for j in range(0, len(inside), 4):
                    use.matchers[inside[j][1]] = inside[j + 2][1].strip('"')
                i = end
            uses.append(use)
        i += 1
    assert depth == 0, expression
    return uses


def _tokens(text: str) -> list[tuple[str, str]]:
    found, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"{text!r} at {at}")
        at = match.end()
        assert match.lastgroup is not None
        if match.lastgroup not in ("space", "range"):
            found.append((match.lastgroup, match.group()))
    return found
