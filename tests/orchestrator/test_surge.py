"""What became of a burst is counted by when requests were due, and told on one page."""

from __future__ import annotations

import pytest

from orchestrator.autoscale.decisions import ScaleDecision
from orchestrator.burst import Answer, Burst
from orchestrator.demo_surge import write_report
from orchestrator.surge import GroupAt, Moment, Surge, attained, refused_share, surge_trace
from orchestrator.surge_page import page
from orchestrator.surge_view import line
from profiler.core import Slo
from profiler.sizes import FixedTokens, SizeDistribution
from tests.plan_builders import group, plan

PHASES = (("before", 10.0, 1.0), ("burst", 20.0, 3.0), ("after", 10.0, 1.0))
SLO = Slo(ttft_s=1.0, tpot_s=0.1, attainment=0.95)
SIZES = SizeDistribution(input_tokens=FixedTokens(tokens=50), output_tokens=FixedTokens(tokens=9))


def served(due_s: float, ttft_s: float = 0.5) -> Answer:
    return Answer(due_s, due_s + ttft_s, due_s + ttft_s + 0.1, 50, 9)


def refused(due_s: float) -> Answer:
    return Answer(due_s, error="RateLimitError: 429", refused=True)


def surge(*answers: Answer) -> Surge:
    moments = [Moment(float(t), (GroupAt("a", 2, 1, 3.0),), 0.25) for t in range(40)]
    return Surge(SLO, Burst(len(answers), list(answers)), PHASES, 1000.0, moments)


def test_the_trace_has_three_times_the_rate_in_the_burst():
    trace = surge_trace(20.0, SIZES, PHASES)
    busy = ((trace.arrival_s >= 10) & (trace.arrival_s < 30)).sum() / 20
    assert busy == pytest.approx(60, rel=0.1)
    assert len(trace) == pytest.approx(1600, rel=0.1)


def test_those_refused_miss_nothing_but_are_counted_as_refused():
    answers = [served(1), served(2, ttft_s=2.0), refused(3), refused(4)]
    assert refused_share(answers) == 0.5
    assert attained(answers, SLO) == 0.5
    assert attained([refused(1)], SLO) is None


def test_recovery_is_when_hardly_any_more_are_refused():
    many = [served(t) for t in range(40)]
    assert surge(*many).recovered_s() == 0
    assert surge(*many, refused(12), refused(18)).recovered_s() == 10
    assert surge(*many, refused(29)).recovered_s() is None


def test_a_line_tells_refusals_and_replicas():
    found = surge(served(38), refused(38.5))
    found.burst.sent_s = [38.0, 38.5]
    said = line(found)
    assert "a 1/2" in said
    assert "50% refused, 1 so far" in said


def test_the_page_says_that_engines_were_emulated_and_why_it_scaled(tmp_path):
    decision = ScaleDecision(1012.0, "a", 1, 2, "<misses>", 3.0, 9.0, 0.1, -0.2, 600.0, 5.0)
    text = page(surge(served(1), refused(12)), plan((group("a"),)), [decision])
    assert "The engines were emulated" in text
    assert "1 refused with 429, 0 failed otherwise" in text
    assert "&lt;misses&gt;" in text
    assert "<script" not in text
    assert "class=mark" in text


def test_a_report_never_takes_the_place_of_another(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("mine")
    found = write_report(surge(served(1)), plan((group("a"),)), [], path)
    assert found == tmp_path / "report-2.html"
    assert path.read_text() == "mine"
