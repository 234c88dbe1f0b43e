"""What policies are judged by: shares of all arrivals, and recovery as the field defines it."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.simulation.measures import answered, measure, met, near_peak, recovery_s
from orchestrator.simulation.result import FleetTimings, Outcome
from profiler.core import Slo

SLO = Slo(ttft_s=1.0, tpot_s=0.1, attainment=0.95)


def every_second(until_s: int = 400) -> np.ndarray:
    return np.arange(until_s, dtype=float)


def timings(first_s, finish_s, output_tokens, group=None, arrival_s=None) -> FleetTimings:
    count = len(first_s)
    finish = np.array(finish_s, float)
    arrival = np.zeros(count) if arrival_s is None else np.array(arrival_s, float)
    zeros = np.zeros(count, dtype=np.int64)
    return FleetTimings(
        arrival_s=arrival,
        first_token_s=np.array(first_s, float),
        finish_s=finish,
        output_tokens=np.array(output_tokens),
        rejected=~np.isfinite(finish),
        replica=zeros,
        preemptions=zeros,
        input_tokens=zeros + 1,
        outcome=np.where(np.isfinite(finish), Outcome.OK, Outcome.OVERLOADED),
        group=zeros if group is None else np.array(group),
        stream=zeros,
        losses=zeros,
        groups=("large", "small"),
        streams=("auto",),
        replicas=(),
        end_s=10.0,
    )


def test_service_that_never_broke_has_recovered_at_once() -> None:
    assert recovery_s(every_second(), np.ones(400, dtype=bool), 100.0) == 0.0


def test_recovery_is_when_the_rolling_share_came_back_for_good() -> None:
    good = np.ones(400, dtype=bool)
    good[90:121] = False  # the last failure arrives at 120 s
    # At 149 s the last 30 s hold the failures of 120 s: 29 of 30 are good, which is 96.7 %.
    assert recovery_s(every_second(), good, 100.0) == 49.0


def test_a_relapse_within_a_minute_starts_the_count_anew() -> None:
    good = np.ones(400, dtype=bool)
    good[[150, 151]] = False  # 28 of 30: below 95 % until only one of them is in the window
    assert recovery_s(every_second(), good, 100.0) == 80.0


def test_a_share_that_did_not_hold_for_a_minute_is_no_recovery() -> None:
    good = np.zeros(400, dtype=bool)
    good[340:] = True
    assert recovery_s(every_second(), good, 100.0) == np.inf


def test_silence_after_a_burst_counts_as_good() -> None:
    arrival_s = np.append(np.arange(100.0), 300.0)
    good = np.append(np.zeros(100, dtype=bool), True)
    assert recovery_s(arrival_s, good, 100.0) == 29.0


def test_refused_and_late_requests_count_in_every_share() -> None:
    got = timings(
        first_s=[0.5, 2.0, np.inf, 0.5],
        finish_s=[1.0, 2.1, np.inf, 9.0],
        output_tokens=[10, 10, 10, 11],
        group=[0, 0, -1, 1],
        arrival_s=[0, 0, 0, 0],
    )
    assert met(got, SLO).tolist() == [True, False, False, False]
    # 1 s + 9 x 0.1 s: the second came late at first and still a whole answer at 2.1 s is too late.
    assert answered(got, SLO).tolist() == [True, False, False, False]


def test_an_answer_that_began_late_and_ended_in_time_was_available() -> None:
    got = timings([1.2], [1.8], [10])
    assert not met(got, SLO)[0]
    assert answered(got, SLO)[0]


def test_quality_is_of_the_model_that_answered_over_the_large_ones_for_all() -> None:
    got = timings([0.5, 0.5, np.inf], [1, 1, np.inf], [10, 10, 10], [0, 1, 0], [0, 1, 2])
    scores = np.array([[1.0, 0.0], [1.0, 0.5], [1.0, 1.0]])
    found = measure(got, SLO, scores=scores, model_of_group=np.arange(2), gpus=2)
    assert found.quality_share == pytest.approx(1.5 / 3)
    assert found.mix == pytest.approx((1 / 3, 1 / 3))
    assert found.quality_per_gpu_hour == pytest.approx(1.5 / (2 * 2 / 3600))
    assert np.isnan(found.recovery_s)


def test_time_near_the_peak_is_told_by_windows_of_at_least_a_hundred_requests() -> None:
    # 60 requests in each 30 s: two pieces make a window, and the fifth piece joins the second.
    arrival_s = np.arange(0.25, 150, 0.5)
    gained = np.ones(300)
    assert near_peak(arrival_s, gained, np.ones(300)) == 1.0
    gained[:6] = 0.0  # 95 % of the first 60 s, 98 % of all
    assert near_peak(arrival_s, gained, np.ones(300)) == pytest.approx(90 / 150)
    gained[:2] = 1.0  # 96.7 %, though the first 30 s alone have 93 %
    assert near_peak(arrival_s, gained, np.ones(300)) == 1.0


def test_few_requests_are_one_window() -> None:
    gained = np.array([1.0, 1.0, 0.0])
    assert near_peak(np.array([0.0, 100.0, 500.0]), gained, np.ones(3)) == 0.0
    assert near_peak(np.array([0.0, 100.0, 500.0]), np.ones(3), np.ones(3)) == 1.0
