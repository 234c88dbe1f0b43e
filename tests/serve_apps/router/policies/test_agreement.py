"""Answers are the same by what they mean, and votes go by weight."""

from __future__ import annotations

import pytest

from serve_apps.router.policies.agreement import canonical, vote


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1,234.0", "1234"),
        ("$20.00", "20"),
        (r"\frac{1}{2}", "1/2"),
        (r"\dfrac{1}{2}", "0.5"),
        ("'abc'", "abc"),
        ("[1, 2]", "[1,2]"),
        ("Paris.", "paris"),
        (r"16755 - 2441\sqrt{53}", r"16755-2441\sqrt{53}"),
    ],
)
def test_one_answer_written_twice(one: str, other: str) -> None:
    assert canonical(one) == canonical(other)


@pytest.mark.parametrize(
    ("one", "other"), [("1", "11"), ("-5", "5"), ("C", "C++"), ("ab", "a b c")]
)
def test_different_answers_stay_different(one: str, other: str) -> None:
    assert canonical(one) != canonical(other)


def test_no_answer() -> None:
    assert canonical(" ") == canonical("___") == canonical("") == ""


def test_the_heavier_side_wins_and_silence_does_not_vote() -> None:
    assert vote(["7", "8", "8.0"], [1.0, 0.6, 0.7]) == 2
    assert vote(["7", "8", "8"], [2.0, 0.6, 0.7]) == 0
    assert vote(["", "", "5"], [1.0, 1.0, 0.1]) == 2
    assert vote(["", ""], [1.0, 2.0]) == 1
