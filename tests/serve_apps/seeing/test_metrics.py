"""What requests add up to: every metric defined, with bounded labels, in Prometheus's text."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from profiler.core import Slo
from serve_apps.seeing import definitions as d
from serve_apps.seeing.counters import quantile
from serve_apps.seeing.record import Attempt, Outcome, Refusal
from serve_apps.seeing.seeing import Seeing
from serve_apps.seeing.snapshot import ReplicaState
from tests import plan_builders
from tests.seeing_builders import ARRIVED_S, record, refused, snapshot

SLO = Slo(ttft_s=1.0, tpot_s=0.05)


def make(fleet=None, **more):
    seeing = Seeing(lambda: fleet or snapshot(), ingress="i0", **more)
    seeing.know(models=["m1", "m2"], groups=["a", "b"], tenants=["team-a"], slo=SLO)
    return seeing


def told(seeing, *records):
    for r in records:
        seeing.started(r)
        seeing.finished(r)
    return seeing


def samples(seeing):
    """Sample name and own labels to value."""
    text = seeing.render()[0].decode()
    return {
        (s.name, *(v for k, v in sorted(s.labels.items()) if k not in d.CONSTANT)): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


def test_an_answer_is_counted_in_all_its_parts():
    found = samples(told(make(), record()))
    assert found["orchestrator_requests_total", "a", "m1", "ok", "none"] == 1
    assert found["orchestrator_time_to_first_token_seconds_sum", "a", "m1"] == pytest.approx(0.4)
    assert found["orchestrator_time_per_output_token_seconds_sum", "a", "m1"] == pytest.approx(0.01)
    assert found["orchestrator_request_duration_seconds_sum", "a", "m1"] == pytest.approx(0.5)
    assert found["orchestrator_queue_wait_seconds_sum", "a", "m1"] == pytest.approx(0.05)
    ratio = "orchestrator_ttft_measured_to_predicted_ratio_sum"
    assert found[ratio, "a", "m1"] == pytest.approx(0.4 / 0.32)
    length = "orchestrator_output_tokens_measured_to_predicted_ratio_sum"
    assert found[length, "a", "m1"] == pytest.approx(0.5)
    assert found["orchestrator_predicted_quality_ratio_sum", "a", "m1"] == pytest.approx(0.8)
    assert found["orchestrator_predicted_cost_usd_total", "a", "m1"] == pytest.approx(0.00021)
    assert found["orchestrator_tenant_tokens_total", "output", "team-a"] == 11
    assert found["orchestrator_slo_requests_total", "yes", "m1"] == 1
    assert found["orchestrator_attempts_total", "a", "ok"] == 1


def test_a_bucket_holds_what_is_at_most_its_bound():
    found = samples(told(make(), record(first_byte_s=ARRIVED_S + 0.5, finished_s=ARRIVED_S + 1)))
    bucket = "orchestrator_time_to_first_token_seconds_bucket"
    assert found[bucket, "a", "0.25", "m1"] == 0
    assert found[bucket, "a", "0.5", "m1"] == 1
    assert found[bucket, "a", "+Inf", "m1"] == 1


def test_a_refusal_counts_by_its_reason_and_nowhere_else():
    found = samples(told(make(), refused(refusal=Refusal.QUEUE_FULL, router_s=None)))
    assert found["orchestrator_requests_total", "none", "none", "overloaded", "queue_full"] == 1
    assert found["orchestrator_slo_requests_total", "no", "none"] == 1
    assert not any("duration" in name or "attempts" in name for name, *_ in found)


@pytest.mark.parametrize(
    ("changed", "met"),
    [
        ({}, "yes"),
        ({"first_byte_s": ARRIVED_S + 1.5, "finished_s": ARRIVED_S + 1.6}, "no"),
        ({"finished_s": ARRIVED_S + 0.4 + 10 * 0.06}, "no"),
        ({"outcome": Outcome.CUT}, "no"),
        # A plain answer: whole within TTFT + TPOT * (tokens - 1) = 1.5 s.
        ({"stream": False, "finished_s": ARRIVED_S + 1.4}, "yes"),
        ({"stream": False, "finished_s": ARRIVED_S + 1.6}, "no"),
        # What the client did says nothing about the pool.
        ({"outcome": Outcome.CANCELLED}, None),
        ({"outcome": Outcome.LIMITED}, None),
    ],
)
def test_the_slo_is_counted_as_the_plan_means_it(changed, met):
    found = samples(told(make(), record(**changed)))
    counted = {key[1]: n for key, n in found.items() if key[0] == "orchestrator_slo_requests_total"}
    assert counted == ({} if met is None else {met: 1})


def test_a_plain_answer_has_no_first_token_time():
    found = samples(told(make(), record(stream=False)))
    assert not any("first_token" in name or "per_output" in name for name, *_ in found)


def test_retries_and_tries_are_counted_where_they_were():
    tried = [Attempt("b", "b#1", 100.0, None, 100.1, "unreachable"), record().tried[0]]
    found = samples(told(make(), record(attempts=2, tried=tried)))
    assert found["orchestrator_retries_total", "a", "m1"] == 1
    assert found["orchestrator_attempts_total", "b", "unreachable"] == 1


def test_a_try_that_broke_off_is_counted_as_cut():
    found = samples(told(make(), record(outcome=Outcome.CUT)))
    assert found["orchestrator_attempts_total", "a", "cut"] == 1


def test_the_fleet_is_sampled_when_it_is_asked_for():
    found = samples(make())
    assert found["orchestrator_replicas", "a", "ready"] == 1
    assert found["orchestrator_replicas", "a", "ejected"] == 1
    assert found["orchestrator_replicas", "b", "ready"] == 0
    assert found["orchestrator_requests_in_flight", "a", "m1"] == 5
    assert found["orchestrator_load_price_usd_per_hour", "a", "now"] == 1.9
    assert found["orchestrator_fleet_usd_per_hour",] == pytest.approx(2 * 0.8)
    assert found["orchestrator_slo_seconds", "ttft"] == 1.0


def test_what_has_no_limit_is_absent():
    found = samples(make(snapshot(budget_usd=None, tpot_slo_s=None)))
    assert ("orchestrator_budget_usd",) not in found
    assert ("orchestrator_slo_seconds", "tpot") not in found


def test_rent_adds_up_over_time_for_replicas_that_were_found():
    now = [0.0]
    seeing = make(clock=lambda: now[0])
    for now[0] in (30.0, 60.0, 90.0):
        seeing.tick()
    found = samples(seeing)
    assert found["orchestrator_rent_usd_total", "a"] == pytest.approx(2 * 0.8 * 90 / 3600)
    assert found["orchestrator_rent_usd_total", "b"] == 0  # only wanted yet


def test_a_clock_that_jumped_is_not_paid_for():
    now = [0.0]
    seeing = make(clock=lambda: now[0])
    for now[0] in (1e6, 5.0):
        seeing.tick()
    assert all(
        v == 0 for key, v in samples(seeing).items() if key[0].startswith("orchestrator_rent")
    )


def test_open_requests_are_those_that_are_not_over():
    seeing, first = make(), record()
    seeing.started(first)
    seeing.started(record("req_9"))
    seeing.finished(first)
    assert samples(seeing)["orchestrator_requests_open",] == 1


def test_a_plan_names_the_labels():
    seeing = Seeing(snapshot)
    seeing.configure(plan_builders.plan((plan_builders.group("g7", "big"),)))
    found = samples(told(seeing, record(model="big", group="g7")))
    assert found["orchestrator_requests_total", "g7", "big", "ok", "none"] == 1
    assert any(key[0] == "orchestrator_slo_requests_total" for key in found)


def everything():
    """A pool to which all has happened that is counted."""
    seeing = told(make(), record(shed=True, router_fallback=True, attempts=2), refused())
    seeing.tick()
    return seeing


def test_all_that_is_defined_is_exposed_and_nothing_else():
    text = everything().render()[0].decode()
    families = {f.name: f for f in text_string_to_metric_families(text)}
    assert set(families) == {m.name for m in d.ALL}
    for metric in d.ALL:
        family = families[metric.name]
        assert family.documentation == metric.help
        assert family.type == metric.kind
        for sample in family.samples:
            labels = set(sample.labels) - {"le"}
            assert labels == {*d.CONSTANT, *metric.labels}, sample
            assert sample.name.removesuffix("_created") in (*metric.samples, metric.name)


def test_names_say_their_units():
    for metric in d.ALL:
        assert metric.name.startswith("orchestrator_")
        assert all(label in d.LABELS for label in metric.labels), metric.name
        assert all(a < b for a, b in zip(metric.buckets, metric.buckets[1:], strict=False))
        for unit, ending in (("seconds", "_seconds"), ("ratio", "_ratio"), ("usd", "_usd")):
            assert (metric.unit == unit) == metric.name.endswith(ending), metric.name


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0])
def test_a_prediction_that_is_no_number_spoils_no_sum(bad):
    fields = ("ttft_s", "tpot_s", "output_tokens", "quality", "cost_usd")
    broken = record(**{f"predicted_{name}": bad for name in fields})
    before, after = samples(told(make(), record())), samples(told(make(), record(), broken))
    for key, value in before.items():
        if "predicted" in key[0]:
            assert after[key] == value, key


names = st.text(max_size=30)
records = st.builds(
    record,
    request_id=names,
    tenant=names,
    model=names,
    group=names,
    model_asked=names,
    reason=names,
    outcome=st.sampled_from(Outcome),
    refusal=st.none() | st.sampled_from(Refusal),
    attempts=st.integers(0, 3),
    tried=st.lists(
        st.builds(Attempt, names, names, st.just(1.0), st.none(), st.just(2.0), names), max_size=2
    ),
)


@settings(max_examples=25)
@given(st.lists(records, max_size=6))
def test_whatever_clients_send_labels_are_bounded(asked):
    text = told(make(), *asked).render()[0].decode()
    known = {"model": {"m1", "m2"}, "group": {"a", "b"}, "tenant": {"team-a", "anonymous"}}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            for label, value in sample.labels.items():
                values = d.LABELS[label].values if label in d.LABELS else ()
                if label in known:
                    assert value in known[label] | {d.NONE, d.OTHER}
                elif values:
                    assert value in values


@pytest.mark.parametrize("plans", [3, 400])
def test_names_stay_within_their_number_over_all_plans(plans):
    seeing = make()
    for i in range(plans):
        seeing.know(models=[f"model-{i}"], tenants=[f"t{i}"])
    for i in range(plans):
        seeing.metrics.count(record(model=f"model-{i}", tenant=f"t{i}"))
    labels = {model for model, *_ in seeing.metrics.requests.values}
    assert len(labels) == min(plans, d.MOST_NAMES - 2 + 1)
    assert len({t for t, _ in seeing.metrics.tenant_requests.values}) <= d.MOST_TENANTS + 1
    assert sum(seeing.metrics.requests.values.values()) == plans


@given(
    st.lists(st.floats(0.001, 400), min_size=1, max_size=50),
    st.floats(0.01, 1),
)
def test_a_quantile_lies_in_the_bucket_of_the_true_one(values, share):
    bounds = d.TTFT.buckets
    counts = [0.0] * (len(bounds) + 1)
    for v in values:
        counts[next((i for i, b in enumerate(bounds) if v <= b), len(bounds))] += 1
    true = sorted(values)[max(math.ceil(share * len(values)) - 1, 0)]
    found = quantile(bounds, counts, share)
    edges = (0.0, *bounds)
    low = max(e for e in edges if e < true)
    high = min((b for b in bounds if b >= true), default=bounds[-1])
    assert low <= found <= high + 1e-12


def test_of_nothing_there_is_no_quantile():
    assert quantile(d.TTFT.buckets, [0.0] * (len(d.TTFT.buckets) + 1), 0.5) is None


def test_states_of_replicas_cover_the_enum():
    assert set(d.LABELS["state"].values) == set(ReplicaState)
