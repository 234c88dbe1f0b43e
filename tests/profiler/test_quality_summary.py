"""The summary says how often a model is right and how sure that is, and hides no failure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from profiler.answer_log import Record
from profiler.quality import QualityRun
from profiler.quality_summary import quantile, summarise, wilson
from profiler.questions import Question


@given(st.integers(0, 200), st.integers(1, 200))
def test_the_interval_is_wilsons(successes, more):
    trials = max(successes, more)
    theirs = binomtest(successes, trials).proportion_ci(method="wilson")
    assert wilson(successes, trials) == pytest.approx((theirs.low, theirs.high), abs=1e-6)


def test_nothing_known_is_anything_possible():
    assert wilson(0, 0) == (0.0, 1.0)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_a_quantile_lies_among_the_figures(figures, q):
    figures.sort()
    assert figures[0] <= quantile(figures, q) * (1 + 1e-12)
    assert quantile(figures, q) <= figures[-1] * (1 + 1e-12)


def test_quantiles_of_known_figures():
    assert quantile([1.0, 2.0, 3.0], 0.5) == 2.0
    assert quantile([0.0, 1.0], 0.9) == pytest.approx(0.9)
    assert quantile([], 0.5) is None


def test_errors_ungraded_and_unasked_are_counted_apart_from_wrong():
    records = [
        Record("0", "m", "", "", text="a", score=1.0, output_tokens=4, latency_s=1.0),
        Record("1", "m", "", "", text="b", score=0.0, output_tokens=8, latency_s=3.0, cut=True),
        Record("2", "m", "", "", text="c", note="no verdict"),
        Record("3", "m", "", "", error="HTTP 500: x"),
    ]
    questions = tuple(
        Question(id=str(i), dataset="xy"[i % 2], prompt="?", answer="a", grader="exact")
        for i in range(5)
    )
    run = QualityRun(questions, ("m",), {r.key: r for r in records}, {"models": {}})
    (line,) = summarise(run)
    counts = {k: line[k] for k in ("questions", "graded", "errors", "ungraded", "not_asked")}
    assert counts == {"questions": 5, "graded": 2, "errors": 1, "ungraded": 1, "not_asked": 1}
    assert (line["accuracy"], line["output_tokens_mean"], line["latency_p50_s"]) == (0.5, 6, 2)
    assert (line["cut_off"], line["usd"], line["first_error"]) == (1, None, "HTTP 500: x")
    assert {k: v["accuracy"] for k, v in line["datasets"].items()} == {"x": 1.0, "y": 0.0}
