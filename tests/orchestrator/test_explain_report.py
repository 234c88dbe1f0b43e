"""Reasons for a terminal: short by default, complete when asked for, whole at any width."""

from io import StringIO

import pytest
from rich.console import Console

from orchestrator.explain_report import binds_line, brief, full, saving_line, use_line
from placement.explanation import Explanation, LimitUse, Loser, Marginal, Prices, Use
from tests.plan_builders import plan

USE = Use(
    gpu="L40S", groups=("a",), usd_per_hour=1.9, request_share=0.44, token_share=0.18,
    input_tokens=410, output_tokens=161, words="short prompts",
)  # fmt: skip
LOSER = Loser(gpu="A100", reason="1 x A100 at $3.43/h would pay at $2.97/h (-13%)")
FULL = LimitUse(limit="headroom of a", used=0.85, allowed=0.85, binds=True, words="a is full")
SPOT_FULL = LimitUse(limit="headroom of s", used=0.64, allowed=0.64, binds=True, words="s is full")
STOCK = LimitUse(limit="stock of H100", used=1, allowed=8, binds=False, words="1 of 8 H100 in use")
QUALITY = LimitUse(limit="mean quality", used=0.7, allowed=0.7, binds=True, words="quality is 0.7")
TPOT = Marginal(change="10 ms more TPOT", shadow_usd_per_hour=0.16)
TTFT = Marginal(change="100 ms more TTFT", shadow_usd_per_hour=0.0, resolved_usd_per_hour=2.0)
NOTHING = Marginal(change="one more H100", shadow_usd_per_hour=0.001)


def explained(**kwargs):
    told = Explanation(uses=(USE,), losers=(LOSER,), limits=(FULL, STOCK), marginals=(TPOT, TTFT))
    prices = Prices(quality={"auto": 36.0}, load={"a": 2.19})
    return plan().model_copy(update={"explanation": told, "prices": prices} | kwargs)


def text(parts, width=140):
    out = StringIO()
    console = Console(file=out, width=width)
    for part in parts:
        console.print(part)
    return out.getvalue()


def test_a_line_for_each_type_what_binds_and_what_would_save():
    lines = [" ".join(line.split()) for line in text(brief(explained())).splitlines()]
    assert lines == [
        "L40S serves 44% of requests, 18% of tokens: short prompts (mean 410 in, 161 out)",
        "A100 1 x A100 at $3.43/h would pay at $2.97/h (-13%)",
        "binds full to the headroom of 85%: a",
        "would save 100 ms more TTFT: $2.00/h; 10 ms more TPOT: $0.16/h by its shadow price",
    ]
    assert use_line(USE) in lines[0]


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ((), "nothing but that replicas come whole"),
        ((STOCK,), "nothing but that replicas come whole"),
        ((QUALITY, FULL, STOCK), "quality is 0.7; full to the headroom of 85%: a"),
        (
            (FULL, SPOT_FULL, FULL),
            "full to the headroom of 85%: a, a; full to the headroom of 64%: s",
        ),
    ],
)
def test_what_binds(limits, words):
    assert binds_line(limits) == words


def test_changes_that_save_nothing_are_said_to():
    assert saving_line((NOTHING,)) == "nothing of one more H100"
    assert saving_line((NOTHING, NOTHING)) == "nothing of one more H100 or one more H100"
    assert saving_line(()) == "nothing"
    assert saving_line((NOTHING, TPOT)) == "10 ms more TPOT: $0.16/h by its shadow price"


def test_everything_when_asked_for():
    found = text(full(explained()))
    for words in (
        "used for",
        "not rented",
        "BINDS",
        "1 of 8 H100",
        "fractional $/h",
        "2.00",
        "2.19",
    ):
        assert words in found
    # $36/h per unit at one request/s: a cent per request and unit, a hundredth of it per point.
    assert "0.1000" in found


@pytest.mark.parametrize("width", [60, 80, 140])
def test_no_line_is_wider_than_the_terminal_and_none_is_cut(width):
    for parts in (brief(explained()), full(explained())):
        found = text(parts, width)
        assert max(len(line) for line in found.splitlines()) <= width
        assert "…" not in found


def test_a_plan_without_reasons_has_none_to_show():
    bare = explained(explanation=None)
    assert text(brief(bare)) == text(full(bare)) == ""
