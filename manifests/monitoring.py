"""Objects for the Prometheus operator and Grafana; what they hold is passed in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from manifests.objects import GROUP_LABEL, Naming, Object, config_map
from manifests.pods import DOOR
from manifests.worker_groups import INGRESS
from serve_apps.seeing.paths import METRICS_PATH

API_VERSION = "monitoring.coreos.com/v1"


def monitoring(
    naming: Naming,
    rule_groups: Sequence[Mapping[str, Any]] = (),
    dashboards: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Object]:
    """A PodMonitor, a PrometheusRule if there are rules, a ConfigMap for each dashboard.

    ``rule_groups`` are Prometheus rule groups, ``dashboards`` Grafana dashboards by file name,
    both as their own formats have them.

    Raises:
        InputError: a dashboard is larger than a ConfigMap holds.
    """
    made = []
    if naming.settings.monitoring.prometheus_operator:
        made.append(_selected(naming, "PodMonitor", _pod_monitor(naming)))
        made.append(_selected(naming, "PodMonitor", _ingress_monitor(naming), INGRESS))
        if rule_groups:
            made.append(
                _selected(naming, "PrometheusRule", {"groups": [dict(g) for g in rule_groups]})
            )
    for name, dashboard in (dashboards or {}).items():
        found = config_map(naming, f"dashboard-{name}", {f"{name}.json": json.dumps(dashboard)})
        found["metadata"]["labels"][naming.settings.monitoring.dashboard_label] = "1"
        made.append(found)
    return made


def _pod_monitor(naming: Naming) -> Object:
    interval = f"{naming.settings.monitoring.interval_s}s"
    return {
        "selector": {"matchLabels": naming.selector},
        "podTargetLabels": ["ray.io/cluster", "ray.io/node-type", "ray.io/group"],
        "podMetricsEndpoints": [{"port": "metrics", "interval": interval}],
    }


def _ingress_monitor(naming: Naming) -> Object:
    """The ingress's own figures, process by process; with an admin key where there is one."""
    chosen = naming.settings.monitoring
    endpoint: Object = {"port": DOOR, "path": METRICS_PATH, "interval": f"{chosen.interval_s}s"}
    if (key := chosen.admin_key) is not None:
        endpoint["authorization"] = {"credentials": {"name": key.name, "key": key.key}}
    return {
        "selector": {"matchLabels": naming.selector | {GROUP_LABEL: INGRESS}},
        "podMetricsEndpoints": [endpoint],
    }


def _selected(naming: Naming, kind: str, spec: Object, part: str = "") -> Object:
    made = naming.object(API_VERSION, kind, part, spec=spec)
    made["metadata"]["labels"] |= naming.settings.monitoring.selector_labels
    return made
