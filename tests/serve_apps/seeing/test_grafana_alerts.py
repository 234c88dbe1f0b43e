"""Dashboards and alerts name only metrics and labels that exist, and have something to show."""

import json
import re
import shutil
import subprocess

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serve_apps.seeing import definitions as d
from serve_apps.seeing.alerts import rules
from serve_apps.seeing.grafana import ENGINE_METRICS, dashboards, panels
from tests.promql_reader import read
from tests.serve_apps.seeing.test_metrics import everything

PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
SAMPLES = {sample: metric for metric in d.ALL for sample in metric.samples}
ALERTS = rules()["groups"][0]["rules"]
BOARDS = dashboards()
ALERT_EXPRESSIONS = {a["alert"]: a["expr"] for a in ALERTS}
PANEL_EXPRESSIONS = {
    f"{board['title']}: {p['title']} {t['refId']}": t["expr"]
    for board in BOARDS.values()
    for p in board["panels"]
    for t in p["targets"]
}
EXPRESSIONS = ALERT_EXPRESSIONS | PANEL_EXPRESSIONS


def test_expressions_use_what_is_defined():
    for name, expression in EXPRESSIONS.items():
        uses = read(expression)
        assert uses, name
        for use in uses:
            if use.name not in ("up", *ENGINE_METRICS):
                check(use, name)


def check(use, name):
    assert use.name in SAMPLES, name
    labels = {*d.CONSTANT, *SAMPLES[use.name].labels}
    assert use.by - {"le"} <= labels, name
    assert ("le" in use.by) <= use.name.endswith("_bucket"), name
    for label, value in use.matchers.items():
        assert label in labels, name
        allowed = d.LABELS[label].values
        assert not allowed or set(value.split("|")) <= set(allowed), name


@pytest.mark.parametrize(
    "wrong",
    [
        "rate(orchestrator_nothing_total[5m])",
        'orchestrator_replicas{model="m1"}',
        'orchestrator_replicas{state="redy"}',
        "sum by (model) (rate(orchestrator_tenant_tokens_total[5m]))",
    ],
)
def test_the_check_sees_what_is_not_defined(wrong):
    with pytest.raises(AssertionError):
        check(read(wrong)[0], wrong)


def test_every_panel_of_a_dashboard_is_about_one_service():
    for name, expression in PANEL_EXPRESSIONS.items():
        for use in read(expression):
            assert use.matchers.get("service") == "$service", name


def test_alerts_never_mix_services():
    for name, expression in ALERT_EXPRESSIONS.items():
        for use in read(expression):
            assert use.name == "up" or "service" in use.by, name


def test_every_metric_that_is_counted_is_shown_or_alerted_on():
    used = {
        SAMPLES[u.name].name for e in EXPRESSIONS.values() for u in read(e) if u.name in SAMPLES
    }
    unseen = {m.name for m in d.ALL} - used
    assert unseen <= {d.JOURNAL.name, d.LOG_DROPPED.name, d.INFO.name, d.RENT.name}


def test_dashboards_are_json_with_panels_that_do_not_overlap():
    for board in BOARDS.values():
        json.dumps(board)
        ids = [p["id"] for p in board["panels"]]
        assert len(ids) == len(set(ids))
        cells = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in board["panels"]]
        assert len(cells) == len(set(cells))
    assert len({b["uid"] for b in BOARDS.values()}) == len(BOARDS)


def test_labels_in_legends_are_those_grouped_by():
    for board in BOARDS.values():
        for target in (t for p in board["panels"] for t in p["targets"]):
            named = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            grouped = set().union(*(u.by for u in read(target["expr"])))
            assert named <= grouped, target


def test_each_alert_says_what_it_is_and_how_bad():
    names = [a["alert"] for a in ALERTS]
    assert len(names) == len(set(names))
    for alert in ALERTS:
        assert alert["labels"]["severity"] in ("page", "ticket")
        assert set(alert["annotations"]) == {"summary", "description", "runbook"}


@needs_promtool
def test_prometheus_takes_the_rules(tmp_path):
    (tmp_path / "rules.yaml").write_text(json.dumps(rules()))
    done = promtool(tmp_path, "check", "rules", "rules.yaml")
    assert done.returncode == 0, done.stderr


@needs_promtool
def test_no_panel_is_empty_on_a_pool_that_has_traffic(tmp_path):
    ours = [t[1] for p in panels() for t in enumerate(q for q, _ in p.queries)]
    tests = [{"expr": plain(e), "eval_time": "15m", "exp_samples": []} for e in ours]
    done = evaluate(tmp_path, series(everything()), promql_expr_test=tests)
    answered = done.stdout + done.stderr
    for expression in ours:
        assert f"expr: {json.dumps(plain(expression))}" in answered, expression
    assert "NaN" not in answered


# What happened, and which alerts are due after eight hours of it.
QUIET = {
    'orchestrator_slo_requests_total{service="s",met="yes"}': "0+60x800",
    'orchestrator_requests_total{service="s",outcome="ok",reason="none"}': "0+60x800",
    'orchestrator_slo_attainment_ratio{service="s"}': "0.95x800",
    'orchestrator_replicas{service="s",group="a",state="ready"}': "2x800",
    'orchestrator_replicas{service="s",group="a",state="ejected"}': "0x800",
    'orchestrator_replicas_wanted{service="s",group="a"}': "2x800",
    'orchestrator_fleet_usd_per_hour{service="s"}': "4x800",
    'orchestrator_planned_usd_per_hour{service="s"}': "4x800",
    'orchestrator_budget_usd{service="s"}': "4000x800",
    'orchestrator_retry_budget_ratio{service="s"}': "1x800",
}
CASES = {
    "all is well": ({}, set()),
    "half of all miss": (
        {'orchestrator_slo_requests_total{service="s",met="no"}': "0+90x800"},
        {"OrchestratorSloBurn1h", "OrchestratorSloBurn6h", "OrchestratorSloBurn1d"},
    ),
    "a tenth is shed": (
        {'orchestrator_requests_total{service="s",reason="overload"}': "0+8x800"},
        {"OrchestratorShedding"},
    ),
    "a tenth is moved to a lesser model": (
        {'orchestrator_shed_total{service="s"}': "0+8x800"},
        {"OrchestratorShedding"},
    ),
    "nobody is ready": (
        {'orchestrator_replicas{service="s",group="a",state="ready"}': "0x800"},
        {"OrchestratorNoReplicaReady"},
    ),
    "one is ejected": (
        {'orchestrator_replicas{service="s",group="a",state="ejected"}': "1x800"},
        {"OrchestratorReplicaEjected"},
    ),
    "the fleet is dearer than planned": (
        {'orchestrator_fleet_usd_per_hour{service="s"}': "5x800"},
        {"OrchestratorCostOverPlan"},
    ),
    "the budget is nearly spent": (
        {'orchestrator_budget_usd{service="s"}': "30x800"},
        {"OrchestratorBudgetNearlySpent", "OrchestratorOverBudgetAhead"},
    ),
    "predictions are half of what is": (
        {
            f'{d.TTFT_RATIO.name}_bucket{{service="s",group="a",le="{le}"}}': f"0+{n}x800"
            for le, n in (("1.5", 0), ("2", 60), ("+Inf", 60))
        },
        {"OrchestratorPredictionDriftTtft"},
    ),
    "no try may be repeated": (
        {'orchestrator_retry_budget_ratio{service="s"}': "0x800"},
        {"OrchestratorRetryBudgetSpent"},
    ),
    "the queue grows": (
        {
            'orchestrator_requests_queued{service="s"}': "0+5x800",
            'orchestrator_oldest_queued_seconds{service="s"}': "3x800",
            'orchestrator_slo_seconds{service="s",target="ttft"}': "1x800",
        },
        {"OrchestratorQueueGrowing"},
    ),
    "the router fails": (
        {
            'orchestrator_router_fallbacks_total{service="s"}': "0+6x800",
            'orchestrator_router_decision_seconds_count{service="s"}': "0+60x800",
        },
        {"OrchestratorRouterFallback"},
    ),
}


@needs_promtool
def test_alerts_fire_when_they_should_and_only_then(tmp_path):
    """All cases in one run: each is a service of its own."""
    expected: dict[str, set[str]] = {a["alert"]: set() for a in ALERTS}
    given: dict[str, str] = {}
    for case, (changed, due) in CASES.items():
        service = case.replace(" ", "-")
        for name, values in (QUIET | changed).items():
            given[name.replace('service="s"', f'service="{service}"')] = values
        for alert in due:
            expected[alert].add(service)
    tests = [
        {"expr": f'count by (service) (ALERTS{{alertname="{alert}",alertstate="firing"}})',
         "eval_time": "8h",
         "exp_samples": [{"labels": f'{{service="{s}"}}', "value": 1} for s in sorted(services)]}
        for alert, services in expected.items()
    ]  # fmt: skip
    done = evaluate(tmp_path, given, promql_expr_test=tests)
    assert done.returncode == 0, done.stdout + done.stderr


def plain(expression):
    """As Grafana sends it."""
    expression = expression.replace("$__rate_interval", "5m").replace("$__range", "10m")
    return expression.replace("$service", ".*")


def series(seeing):
    """What Prometheus would hold after some time of the same again."""
    found = {}
    for family in text_string_to_metric_families(seeing.render()[0].decode()):
        for s in family.samples:
            labels = ",".join(f"{k}={json.dumps(v)}" for k, v in s.labels.items())
            steps = f"{s.value}x30" if family.type == "gauge" else f"0+{s.value}x30"
            found[f"{s.name}{{{labels}}}"] = steps
    return found


def evaluate(directory, given, **tests):
    (directory / "rules.yaml").write_text(json.dumps(rules()))
    test = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "5m",  # quick, and no less strict
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": k, "values": v} for k, v in given.items()],
                **tests,
            }
        ],
    }
    (directory / "test.yaml").write_text(json.dumps(test))
    return promtool(directory, "test", "rules", "test.yaml")


def promtool(directory, *args):
    return subprocess.run(
        [PROMTOOL, *args], cwd=directory, capture_output=True, text=True, check=False
    )
