"""Prometheus alert rules, made from the metric definitions."""

from __future__ import annotations

import math
from typing import Any

from serve_apps.seeing import definitions as d
from serve_apps.seeing.promql import Query

_BY = ("service",)
_Q = Query()
HOURS_PER_30_DAYS = 720
BURNS = (("1h", "5m", 14.4, "page"), ("6h", "30m", 6.0, "page"), ("1d", "2h", 3.0, "ticket"))
"""Windows and burn rates of the SRE Workbook (Beyer et al. 2018, chapter 5): an alert when both
windows burn the error budget so many times faster than it may last for 30 days."""
ENOUGH = 0.5
"""Where the SLO allows many misses, no burn rate may ask for more than all to be missed."""
MOST_SHED, MOST_ERRORS, MOST_FALLBACKS = 0.05, 0.01, 0.01
MOST_OVER_PLAN = 1.1
DRIFT = 1.5
"""The median prediction is off by this factor, either way."""


def rules(docs: str = "docs/observability.md") -> dict[str, Any]:
    """A Prometheus rules file as data; ``docs`` is where the alerts are told about."""
    alerts = [
        *_burning(),
        *_service(),
        *_fleet(),
        *_routing(),
        *_money(),
    ]
    for alert in alerts:
        alert["annotations"]["runbook"] = f"{docs}#{alert['alert'].casefold()}"
    return {"groups": [{"name": "orchestrator", "interval": "30s", "rules": alerts}]}


def _burning() -> list[dict[str, Any]]:
    allowed = f"(1 - {_Q.value(d.SLO_SHARE, _BY)})"
    found = []
    for long, short, times, severity in BURNS:
        missing = " and ".join(
            f"{_missed(window)} > clamp_max({times:g} * {allowed}, {ENOUGH:g})"
            for window in (long, short)
        )
        found.append(
            _alert(
                f"OrchestratorSloBurn{long}",
                missing,
                "0m",
                severity,
                "requests miss the latency targets far more often than they may",
                f"Over {long}, {{{{ $value | humanizePercentage }}}} of requests missed the SLO.",
            )
        )
    return found


def _missed(window: str) -> str:
    q = _Q.over(window)
    return f"{q.rate(d.SLO_REQUESTS, _BY, met='no')} / {q.rate(d.SLO_REQUESTS, _BY)}"


def _service() -> list[dict[str, Any]]:
    requests = _Q.rate(d.REQUESTS, _BY)
    errors = _Q.rate(
        d.REQUESTS,
        _BY,
        outcome=("engine_error", "unavailable", "timeout", "cut", "internal_error"),
    )
    growing = f"deriv({_Q.value(d.QUEUED, _BY)}[10m:30s]) > 0"
    late = f"max by (service) ({d.OLDEST_QUEUED.name})"
    target = _Q.value(d.SLO_TARGET, _BY, target="ttft")
    return [
        _alert(
            "OrchestratorShedding",
            f"{shed_share(_Q, _BY)} > {MOST_SHED}",
            "30m",
            "ticket",
            "load has been shed for longer than a cold start takes",
            "{{ $value | humanizePercentage }} of requests are refused or moved to a lesser model; "
            "the fleet is too small for its traffic.",
        ),
        _alert(
            "OrchestratorErrors",
            f"{errors} / {requests} > {MOST_ERRORS}",
            "10m",
            "page",
            "requests fail",
            "{{ $value | humanizePercentage }} of requests end in errors of the pool.",
        ),
        _alert(
            "OrchestratorQueueGrowing",
            f"{growing} and {late} > {target}",
            "5m",
            "page",
            "requests wait longer than the TTFT target, and ever more of them",
            "The queue grows by {{ $value | humanize }} requests a second.",
        ),
        _alert(
            "OrchestratorAuthRefusals",
            f"{_Q.rate(d.REQUESTS, _BY, reason=d.AUTH_REASONS)} > 1",
            "15m",
            "ticket",
            "many requests carry no valid key",
            "{{ $value | humanize }} requests a second are refused for their keys.",
        ),
    ]


def _fleet() -> list[dict[str, Any]]:
    by = ("service", "group")
    ready = _Q.value(d.REPLICAS, by, state="ready")
    return [
        _alert(
            "OrchestratorNoReplicaReady",
            f"{ready} == 0 and {_Q.value(d.WANTED, by)} > 0",
            "1m",
            "page",
            "a replica group has nobody to answer",
            "No replica of group {{ $labels.group }} is ready.",
        ),
        _alert(
            "OrchestratorReplicaEjected",
            f"{_Q.value(d.REPLICAS, by, state=('ejected', 'probing'))} > 0",
            "5m",
            "ticket",
            "a replica fails or is slow, and gets no requests",
            "{{ $value }} of group {{ $labels.group }} have been ejected for five minutes.",
        ),
        _alert(
            "OrchestratorIngressDown",
            'up{job="orchestrator-ingress"} == 0',
            "1m",
            "page",
            "an ingress process cannot be scraped",
            "{{ $labels.instance }} does not answer.",
        ),
    ]


def _routing() -> list[dict[str, Any]]:
    drifts = [
        _alert(
            f"OrchestratorPredictionDrift{name}",
            f"abs(ln({_Q.over('1h').quantile(0.5, metric, ('service', 'group'))})) "
            f"> {math.log(DRIFT):.3f}",
            "30m",
            "ticket",
            f"{name.upper()} is not what was predicted",
            f"The median {name.upper()} of group {{{{ $labels.group }}}} is off by more than "
            f"{DRIFT} times: measure its profile again.",
        )
        for name, metric in (("Ttft", d.TTFT_RATIO), ("Tpot", d.TPOT_RATIO))
    ]
    decided = f"sum by (service) (rate({d.DECISION.name}_count[5m]))"
    return [
        *drifts,
        _alert(
            "OrchestratorRouterFallback",
            f"{_Q.rate(d.FALLBACKS, _BY)} / {decided} > {MOST_FALLBACKS}",
            "10m",
            "ticket",
            "the learned router fails or is late",
            "The plan's shares decide {{ $value | humanizePercentage }} of requests instead.",
        ),
        _alert(
            "OrchestratorRetryBudgetSpent",
            f"min by (service) ({d.RETRY_BUDGET.name}) < 0.1",
            "5m",
            "page",
            "so many tries fail that further ones are not repeated",
            "{{ $value | humanizePercentage }} of the retry budget is left.",
        ),
    ]


def _money() -> list[dict[str, Any]]:
    now, budget = _Q.value(d.FLEET_RENT, _BY), _Q.value(d.SPEND_LIMIT, _BY)
    return [
        _alert(
            "OrchestratorBudgetNearlySpent",
            f"{_Q.spent(d.FLEET_RENT, '30d', '5m', 12, _BY)} / {budget} > 0.9",
            "10m",
            "ticket",
            "nine tenths of the budget are spent",
            "{{ $value | humanizePercentage }} of the 30 days' budget is spent.",
        ),
        _alert(
            "OrchestratorOverBudgetAhead",
            f"{now} * {HOURS_PER_30_DAYS} / {budget} > 1",
            "1h",
            "ticket",
            "at this rate the budget will not last",
            "The fleet of now would take {{ $value | humanizePercentage }} of the budget.",
        ),
        _alert(
            "OrchestratorCostOverPlan",
            f"{now} / {_Q.value(d.PLANNED_RENT, _BY)} > {MOST_OVER_PLAN}",
            "30m",
            "ticket",
            "the fleet costs more than the plan",
            "It rents for {{ $value | humanizePercentage }} of what was planned.",
        ),
    ]


def shed_share(q: Query, by: tuple[str, ...] = ()) -> str:
    """Requests refused for load or moved to a lesser model, over all requests."""
    refused = q.rate(d.REQUESTS, by, reason=d.SHED_REASONS)
    shed = q.rate(d.SHED, by)
    everything = q.rate(d.REQUESTS, by)
    none = f"0 * {everything}"
    return f"(({refused} or {none}) + ({shed} or {none})) / {everything}"


def _alert(
    name: str, expression: str, lasting: str, severity: str, summary: str, description: str
) -> dict[str, Any]:
    return {
        "alert": name,
        "expr": expression,
        "for": lasting,
        "labels": {"severity": severity},
        "annotations": {
            "summary": f"{{{{ $labels.service }}}}: {summary}",
            "description": description,
        },
    }
