"""A rate is believed once enough has arrived, or enough time has passed."""

from __future__ import annotations

import json

import pytest

from orchestrator.autoscale.evidence import Bin, Evidence


def requests(seconds, count, each=1.0):
    return Bin(seconds, count * each, count * each**2)


def test_a_bin_as_long_as_a_turn_is_a_rate_of_itself():
    evidence = Evidence()
    for count in (40, 3, 0, 90):
        assert evidence.add(requests(20.0, count)) == (count / 20.0, 20.0)


def test_nothing_is_said_before_five_seconds():
    evidence = Evidence()
    assert [evidence.add(requests(2.0, 100)) for _ in range(2)] == [None, None]
    assert evidence.add(requests(2.0, 100)) == (50.0, 6.0)


def test_few_requests_are_taken_together_with_those_before():
    evidence = Evidence()
    for _ in range(20):
        found = evidence.add(requests(2.0, 4))
    assert found == (2.0, 14.0)  # 28 requests: the first 25


def test_one_large_request_is_no_rate():
    evidence = Evidence()
    for _ in range(10):
        evidence.add(requests(2.0, 40))
    rate, seconds = evidence.add(Bin(2.0, 240.0, 40 + 200.0**2))
    assert seconds == 20.0
    assert rate == pytest.approx((9 * 40 + 240) / 20)


def test_what_it_knows_can_be_put_down_and_taken_up():
    one = Evidence()
    for count in (1, 2, 3):
        one.add(requests(4.0, count))
    other = Evidence.restored(json.loads(json.dumps(one.state())))
    assert one.add(requests(4.0, 5)) == other.add(requests(4.0, 5))
