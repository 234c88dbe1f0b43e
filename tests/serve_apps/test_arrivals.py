"""Every request about to be placed counts for the plan's size buckets, once in all."""

from __future__ import annotations

from collections import Counter

import pytest

from serve_apps.arrivals import SMOOTHING, Bucket, Demand
from tests.plan_builders import group, plan, route

SHORT, LONG = (0, 100), (100, 1000)
SMALL, LARGE = (0, 500), (500, 4000)


def demand() -> tuple[Demand, Counter[Bucket]]:
    routes = (
        route({"a": 1.0}, inputs=SMALL, outputs=SHORT, rate_rps=3),
        route({"a": 1.0}, inputs=SMALL, outputs=LONG, rate_rps=1),
        route({"a": 1.0}, inputs=LARGE, outputs=SHORT, rate_rps=1),
        route({"b": 1.0}, stream="m2", inputs=SMALL, outputs=LONG, rate_rps=1),
    )
    counts: Counter[Bucket] = Counter()
    made = plan((group("a"), group("b", model="m2")), routes)

    def count(bucket: Bucket, part: float) -> None:
        counts[bucket] += part  # type: ignore[assignment]  # parts of requests

    return Demand(made, count), counts


def test_a_request_is_spread_over_output_buckets_as_the_plan_expects():
    told, counts = demand()
    told.arrived("auto", 20, None)
    assert counts == {("auto", "in<=500,out<=100"): 0.75, ("auto", "in<=500,out<=1000"): 0.25}


def test_a_limit_on_the_answer_rules_longer_buckets_out():
    told, counts = demand()
    told.arrived("auto", 20, 50)
    assert counts == {("auto", "in<=500,out<=100"): 1.0}


def test_a_model_with_traffic_of_its_own_has_its_own_stream_and_others_share():
    told, counts = demand()
    told.arrived("m2", 20, None)
    told.arrived("m1", 3000, None)
    assert counts == {("m2", "in<=500,out<=1000"): 1.0, ("auto", "in<=4000,out<=100"): 1.0}


def test_a_request_larger_than_any_bucket_counts_for_the_nearest():
    told, counts = demand()
    told.arrived("auto", 100_000, None)
    assert counts == {("auto", "in<=4000,out<=100"): 1.0}


def test_answers_teach_where_the_next_ones_fall():
    told, counts = demand()
    told.answered("auto", 20, 700)
    told.arrived("auto", 20, None)
    longer = 0.25 + SMOOTHING * 0.75
    assert counts["auto", "in<=500,out<=1000"] == pytest.approx(longer)
    assert sum(counts.values()) == pytest.approx(1)
