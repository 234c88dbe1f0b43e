"""An engine that does worse than its profile is believed to, before much is sent to it in vain."""

from __future__ import annotations

import pytest

from serve_apps.flow.dispatcher import DEFAULTS
from serve_apps.flow.nouns import Lease, Result, Wait
from serve_apps.flow.settings import FlowSettings
from tests import builders
from tests.serve_apps.flow import flows
from tests.serve_apps.flow.flows import Flow

TOKENS = 20


def answered(flow: Flow, times: float) -> None:
    """A lone answer that took so many times what was predicted at first."""
    step_s = flow.plan.groups[0].profile.step_time.base_s
    lease = flow.lease()
    flow.now += lease.predicted_ttft_s
    lease.first_byte()
    flow.now += times * step_s * (TOKENS - 1)
    lease.done(Result.OK, TOKENS)


def one(settings: FlowSettings = DEFAULTS, tpot_s: float = 0.1) -> Flow:
    slo = builders.slo(ttft_s=1.0, tpot_s=tpot_s)
    return Flow(flows.plan(flows.group(replicas=1, base_s=0.02), slo=slo), settings=settings)


def ratio(flow: Flow) -> float:
    return flow.dispatcher.snapshot().groups[0].replicas[0].tpot_ratio


@pytest.mark.parametrize("times", [2.5, 4.0])
def test_a_few_answers_tell_that_an_engine_is_far_slower_than_its_profile(times: float) -> None:
    flow = one()
    for _ in range(4):
        answered(flow, times)
    assert ratio(flow) > 0.5 * times


def test_what_one_answer_or_chance_says_is_not_believed_at_once() -> None:
    flow = one()
    answered(flow, 4.0)
    assert ratio(flow) < 2.0
    steady = one()
    for _ in range(4):
        answered(steady, 1.4)
    assert ratio(steady) < 1.2


def test_who_waits_for_a_slow_engine_is_told_to_wait_longer() -> None:
    def wait_s(times: float) -> float:
        flow = one()
        for _ in range(12):
            answered(flow, times)
        flow.fill()
        assert isinstance(flow.ask(), Wait)
        return flow.dispatcher.snapshot().groups[0].wait_s

    assert wait_s(1.0) > 0.0
    assert wait_s(3.0) == pytest.approx(3.0 * wait_s(1.0), rel=0.3)


def after(prompts: int, alarm: float) -> float:
    """The pace by one answer of four seconds that met so many long prompts."""
    flow = one(FlowSettings(alarm=alarm), tpot_s=10.0)
    lease = flow.lease()
    flow.now += lease.predicted_ttft_s
    lease.first_byte()
    for _ in range(prompts):
        other = flow.ask(tokens=3500, deadline_s=60.0)
        assert isinstance(other, Lease)
        other.first_byte()
        other.done(Result.OK, 1)
    flow.now += 4.0
    lease.done(Result.OK, TOKENS)
    return ratio(flow)


def test_a_slow_answer_that_prompts_explain_raises_no_alarm() -> None:
    assert after(0, alarm=0.9) > after(0, alarm=0.1)
    assert after(12, alarm=0.9) == after(12, alarm=0.1)
