"""What goes on now: rates and percentiles of the last while, the fleet, the last decisions."""

import json

import pytest

from profiler.core import Slo
from serve_apps.seeing.live import HISTORY_TICKS
from serve_apps.seeing.plain import finite
from serve_apps.seeing.record import Outcome, Refusal
from serve_apps.seeing.seeing import Seeing
from tests.seeing_builders import ARRIVED_S, record, refused, snapshot


class Pool:
    """A pool whose clock is moved by hand."""

    def __init__(self):
        self.now_s = 0.0
        self.seeing = Seeing(snapshot, ingress="i0", clock=lambda: self.now_s)
        slo = Slo(ttft_s=1.0, tpot_s=0.05)
        self.seeing.know(models=["m1", "m2"], groups=["a", "b"], tenants=["team-a"], slo=slo)
        self.seeing.tick()

    def second(self, *records):
        for r in records:
            self.seeing.started(r)
            self.seeing.finished(r)
        self.now_s += 1
        self.seeing.tick()

    @property
    def now(self):
        return self.seeing.look()["now"]


def test_before_anything_happened_nothing_is_made_up():
    seen = Seeing(snapshot).look()
    assert seen["now"]["requests_per_s"] is None
    assert seen["now"]["ttft_p99_s"] is None
    assert seen["decisions"] == []


def test_rates_are_of_the_last_ten_seconds():
    pool = Pool()
    for _ in range(20):
        pool.second(record(), record("b", group="b", model="m2", output_tokens=31))
    for _ in range(5):
        pool.second()
    assert pool.now["requests_per_s"] == pytest.approx(1.0)
    assert pool.now["output_tokens_per_s"] == pytest.approx(21.0)
    groups = {g["name"]: g for g in pool.seeing.look()["groups"]}
    assert groups["b"]["output_tokens_per_s"] == pytest.approx(15.5)


def test_shares_are_of_the_last_minute_and_forget_what_was_before():
    pool = Pool()
    for _ in range(10):
        pool.second(refused(refusal=Refusal.OVERLOAD), record(shed=True), record(), record())
    assert pool.now["shed_share"] == pytest.approx(0.5)
    assert pool.now["refused_share"] == pytest.approx(0.25)
    assert pool.now["slo_share"] == pytest.approx(0.75)
    for _ in range(60):
        pool.second(record())
    assert pool.now["shed_share"] == 0
    assert pool.now["slo_share"] == 1


def test_errors_are_the_pools_own():
    pool = Pool()
    pool.second(record(outcome=Outcome.CUT), record(outcome=Outcome.CANCELLED))
    assert pool.now["error_share"] == pytest.approx(0.5)


def test_percentiles_lie_in_the_right_bucket():
    pool = Pool()
    slow = record(first_byte_s=ARRIVED_S + 3, finished_s=ARRIVED_S + 3.1)
    pool.second(*(record(f"r{i}") for i in range(90)), *([slow] * 10))
    assert 0.25 < pool.now["ttft_p50_s"] <= 0.5
    assert 2 < pool.now["ttft_p99_s"] <= 4


def test_groups_tell_their_replicas_by_state_and_their_prices():
    a, b = Pool().seeing.look()["groups"]
    assert (a["ready"], a["wanted"], a["states"]) == (1, 2, {"ready": 1, "ejected": 1})
    assert (a["in_flight"], a["queued"]) == (5, 3)
    assert (a["price_usd_per_hour"], a["planned_price_usd_per_hour"]) == (1.9, 0.9)
    assert b["states"] == {"starting": 1}


def test_history_is_bounded():
    pool = Pool()
    for _ in range(HISTORY_TICKS + 50):
        pool.second()
    history = pool.seeing.look()["history"]
    assert {len(points) for points in history.values()} == {HISTORY_TICKS}


def test_decisions_say_why_newest_first():
    pool = Pool()
    pool.second(record("first"), refused("second", refusal=Refusal.QUEUE_FULL))
    newest, oldest = pool.seeing.look()["decisions"]
    assert (newest["request_id"], newest["reason"]) == ("second", "refused: queue_full")
    assert oldest["reason"] == "quality 0.80 at $0.00021 beats m2"


def test_it_is_json():
    pool = Pool()
    pool.second(record())
    json.dumps(finite(pool.seeing.look()), allow_nan=False)
