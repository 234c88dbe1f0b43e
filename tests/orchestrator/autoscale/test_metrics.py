"""Decisions are counted, and told to whoever scrapes them."""

from __future__ import annotations

import socket

import pytest

pytest.importorskip("prometheus_client")

from orchestrator.autoscale.decisions import ReplanDecision, ScaleDecision
from orchestrator.autoscale.metrics import ScaleMetrics
from profiler.errors import InputError


def change(before, after):
    return ScaleDecision(0.0, "chat", before, after, "why", 12.5, 20.0, 0.1, -0.2, 600.0, 21.2)


def replan(saving_usd):
    return ReplanDecision(0.0, "suggested", "f", {"b": 1}, 1.0, 2.0, 0.1, saving_usd, 4.0)


def test_changes_and_plans_are_counted_with_their_latest_figures():
    metrics = ScaleMetrics()
    for decision in (change(1, 3), change(3, 4), change(4, 2), replan(8.0), replan(None)):
        metrics.tell(decision)

    def value(name, **labels):
        return metrics.registry.get_sample_value(f"orchestrator_autoscale_{name}", labels)

    assert value("changes_total", group="chat", direction="up") == 2
    assert value("changes_total", group="chat", direction="down") == 1
    assert value("replicas", group="chat") == 2
    assert value("forecast_requests_per_second", group="chat") == 12.5
    assert value("fleet_usd_per_hour") == 21.2
    assert value("replans_total", action="suggested") == 2
    assert value("replan_saving_usd_per_hour") == 2.0


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"--metrics-port {port}"):
            ScaleMetrics().serve(port)
