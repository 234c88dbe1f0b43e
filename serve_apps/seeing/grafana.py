"""Grafana dashboards as data, made from the metric definitions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from serve_apps.seeing import definitions as d
from serve_apps.seeing.alerts import shed_share
from serve_apps.seeing.promql import Query, or_zero

SELECTOR = 'service=~"$service"'
_Q = Query(SELECTOR, "$__rate_interval")
_WIDE, _HIGH, _COLUMNS = 8, 8, 24
ENGINE_METRICS = (
    "vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc",
    "vllm:generation_tokens_total", "vllm:prompt_tokens_total", "vllm:num_preemptions_total",
    "vllm:time_to_first_token_seconds_bucket", "vllm:prefix_cache_hits_total",
    "vllm:prefix_cache_queries_total",
)  # fmt: skip
"""What of vLLM's own metrics the engines' dashboard shows."""


@dataclass(frozen=True, slots=True)
class Panel:
    """A chart, or a single figure: what it shows, its unit as Grafana names it, its queries."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    kind: str = "timeseries"
    help: str = ""


def dashboards() -> dict[str, dict[str, Any]]:
    """Name to dashboard, ready to be written as JSON or put into a ConfigMap."""
    return {
        "orchestrator-overview": _dashboard(
            "orchestrator-overview", "Orchestrator: overview", _overview()
        ),
        "orchestrator-routing": _dashboard(
            "orchestrator-routing", "Orchestrator: routing and fleet", _routing()
        ),
        "orchestrator-engines": _dashboard(
            "orchestrator-engines", "Orchestrator: engines (vLLM)", _engines()
        ),
    }


def panels() -> tuple[Panel, ...]:
    """Every panel that shows metrics of ours."""
    return (*_overview(), *_routing())


def _overview() -> tuple[Panel, ...]:
    requests, rent = _Q.rate(d.REQUESTS), _Q.spent(d.FLEET_RENT, "$__range", "1m", 60)
    met, held = _Q.rate(d.SLO_REQUESTS, met="yes"), _Q.rate(d.SLO_REQUESTS)
    return (
        Panel("Requests/s", "reqps", ((requests, "requests"),), "stat"),
        Panel(
            "Inside the SLO",
            "percentunit",
            ((f"{or_zero(met)} / {held}", "met"), (_Q.value(d.SLO_SHARE), "asked")),
            "stat",
            d.SLO_REQUESTS.formula,
        ),
        Panel("Rent in this range", "currencyUSD", ((rent, "rent"),), "stat", d.RENT.formula),
        Panel(
            "Requests by outcome",
            "reqps",
            ((_Q.rate(d.REQUESTS, ("outcome",)), "{{outcome}}"),),
            help=d.REQUESTS.help,
        ),
        Panel(
            "Refusals by reason",
            "reqps",
            ((or_zero(_refusals()), "{{reason}}"),),
            help=d.LABELS["reason"].help,
        ),
        Panel(
            "Demand by stream",
            "reqps",
            ((_Q.rate(d.ARRIVALS, ("stream",)), "{{stream}}"),),
            help="Served or refused, before any limit of the pool: what the autoscaler sees",
        ),
        Panel("Shed share", "percentunit", ((shed_share(_Q), "shed"),), help=d.SHED.formula),
        *(
            Panel(title, "s", _percentiles(metric), help=metric.formula)
            for title, metric in (
                ("TTFT", d.TTFT),
                ("TPOT", d.TPOT),
                ("Whole answer", d.DURATION),
            )
        ),
        Panel(
            "Tokens/s",
            "short",
            ((_Q.rate(d.TOKENS, ("direction",)), "{{direction}}"),),
            help=d.TOKENS.help,
        ),
        Panel(
            "Requests by model",
            "reqps",
            ((_Q.rate(d.REQUESTS, ("model",)), "{{model}}"),),
        ),
        Panel(
            "Rent",
            "currencyUSD",
            ((_Q.value(d.FLEET_RENT), "now"), (_Q.value(d.PLANNED_RENT), "planned")),
            help="USD per hour",
        ),
        Panel(
            "Requests by tenant",
            "reqps",
            ((_Q.rate(d.TENANT_REQUESTS, ("tenant",)), "{{tenant}}"),),
        ),
        Panel(
            "Tokens by tenant",
            "short",
            ((_Q.rate(d.TENANT_TOKENS, ("tenant",)), "{{tenant}}"),),
        ),
        Panel(
            "Cost by tenant",
            "currencyUSD",
            ((f"3600 * ({_Q.rate(d.TENANT_COST, ('tenant',))})", "{{tenant}}"),),
            help="USD per hour, estimated: " + d.TENANT_COST.help,
        ),
    )


def _routing() -> tuple[Panel, ...]:
    by = ("group",)
    open_ = _Q.value(d.OPEN)
    return (
        Panel(
            "Price of load",
            "currencyUSD",
            ((_Q.value(d.PRICE, ("group", "kind")), "{{group}} {{kind}}"),),
            help=d.PRICE.help,
        ),
        Panel(
            "Expected quality of answers",
            "percentunit",
            ((_Q.mean(d.QUALITY, ("model",)), "{{model}}"), (_Q.mean(d.QUALITY), "all")),
            help=d.QUALITY.help,
        ),
        Panel(
            "Moved to a lesser model",
            "reqps",
            ((or_zero(_Q.rate(d.SHED, ("model",))), "to {{model}}"),),
            help=d.SHED.help,
        ),
        Panel(
            "Replicas",
            "short",
            (
                (_Q.value(d.REPLICAS, ("group", "state")), "{{group}} {{state}}"),
                (_Q.value(d.WANTED, by), "{{group}} wanted"),
            ),
            help=d.REPLICAS.help,
        ),
        Panel(
            "In flight and queued",
            "short",
            (
                (_Q.value(d.IN_FLIGHT, by), "{{group}} in flight"),
                (_Q.value(d.QUEUED), "queued"),
                (open_, "open"),
            ),
        ),
        Panel("Tokens in flight", "short", ((_Q.value(d.TOKENS_IN_FLIGHT, by), "{{group}}"),)),
        Panel("Wait for a slot", "s", _percentiles(d.QUEUE_WAIT), help=d.QUEUE_WAIT.help),
        Panel(
            "Oldest in the queue",
            "s",
            ((f"max({d.OLDEST_QUEUED.name}{{{SELECTOR}}})", "oldest"),),
        ),
        Panel("Router's decision", "s", _percentiles(d.DECISION), help=d.DECISION.help),
        *(
            Panel(
                title,
                "short",
                (
                    (_Q.quantile(0.5, metric, by), "{{group}} median"),
                    (_Q.quantile(0.9, metric, by), "{{group}} p90"),
                ),
                help=f"1 is as predicted: {metric.formula}",
            )
            for title, metric in (
                ("TTFT against predicted", d.TTFT_RATIO),
                ("TPOT against predicted", d.TPOT_RATIO),
                ("Output tokens against predicted", d.LENGTH_RATIO),
            )
        ),
        Panel(
            "Tries by result",
            "reqps",
            ((or_zero(_Q.rate(d.ATTEMPTS, ("result",))), "{{result}}"),),
        ),
        Panel(
            "Retries",
            "reqps",
            (
                (or_zero(_Q.rate(d.RETRIES)), "retries"),
                (f"min({d.RETRY_BUDGET.name}{{{SELECTOR}}})", "budget left"),
            ),
        ),
        Panel("Router fallbacks", "reqps", ((_Q.rate(d.FALLBACKS), "fallbacks"),)),
        Panel(
            "Predicted cost of requests",
            "currencyUSD",
            ((f"3600 * ({_Q.rate(d.REQUEST_COST, ('model',))})", "{{model}}"),),
            help="USD per hour, estimated: " + d.REQUEST_COST.help,
        ),
    )


def _engines() -> tuple[Panel, ...]:
    where = f"{{{SELECTOR}}}"
    (running, waiting, cache, output, prompt, preempted, ttft, hits, asked) = ENGINE_METRICS

    def rate(name: str) -> str:
        return f"sum by (group) (rate({name}{where}[$__rate_interval]))"

    label = "{{group}}"
    return (
        Panel("Running", "short", ((f"sum by (group) ({running}{where})", label),)),
        Panel("Waiting in engines", "short", ((f"sum by (group) ({waiting}{where})", label),)),
        Panel("KV cache used", "percentunit", ((f"max by (group) ({cache}{where})", label),)),
        Panel("Output tokens/s", "short", ((rate(output), label),)),
        Panel("Prompt tokens/s", "short", ((rate(prompt), label),)),
        Panel("Preemptions/s", "short", ((rate(preempted), label),)),
        Panel("Prefix cache hits", "percentunit", ((f"{rate(hits)} / {rate(asked)}", label),)),
        Panel(
            "TTFT p99, engine and ingress",
            "s",
            (
                (
                    f"histogram_quantile(0.99, sum by (group, le) "
                    f"(rate({ttft}{where}[$__rate_interval])))",
                    "{{group}} engine",
                ),
                (_Q.quantile(0.99, d.TTFT, ("group",)), "{{group}} ingress"),
            ),
        ),
    )


def _refusals() -> str:
    reasons = tuple(r for r in d.LABELS["reason"].values if r != d.NONE)
    return _Q.rate(d.REQUESTS, ("reason",), reason=reasons)


def _percentiles(metric: d.Definition) -> tuple[tuple[str, str], ...]:
    return tuple((_Q.quantile(share, metric), f"p{share:.0%}"[:-1]) for share in (0.5, 0.9, 0.99))


def _dashboard(uid: str, title: str, shown: Sequence[Panel]) -> dict[str, Any]:
    per_row = _COLUMNS // _WIDE
    return {
        "uid": uid,
        "title": title,
        "tags": ["orchestrator"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_datasource(), _services()]},
        "panels": [
            _panel(i + 1, panel, x=_WIDE * (i % per_row), y=_HIGH * (i // per_row))
            for i, panel in enumerate(shown)
        ],
    }


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Source"}


def _services() -> dict[str, Any]:
    query = f"label_values({d.INFO.name}, service)"
    return {
        "name": "service",
        "label": "Service",
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": {"query": query, "refId": "service"},
        "definition": query,
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _panel(number: int, panel: Panel, x: int, y: int) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${datasource}"}
    return {
        "id": number,
        "title": panel.title,
        "description": panel.help,
        "type": panel.kind,
        "datasource": source,
        "gridPos": {"x": x, "y": y, "w": _WIDE, "h": _HIGH},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}}
        if panel.kind == "timeseries"
        else {"reduceOptions": {"calcs": ["lastNotNull"]}},
        "targets": [
            {"refId": chr(ord("A") + i), "datasource": source, "expr": expr, "legendFormat": label}
            for i, (expr, label) in enumerate(panel.queries)
        ],
    }
