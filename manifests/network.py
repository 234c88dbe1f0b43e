"""Who may reach the service's pods, and how many may be drained at once."""

from __future__ import annotations

from collections.abc import Sequence

from manifests.objects import GROUP_LABEL, Naming, Object
from manifests.pods import DASHBOARD_PORT, DOOR, METRICS_PORT
from manifests.worker_groups import INGRESS, WorkerGroup

NAMESPACE_NAME = "kubernetes.io/metadata.name"
BUDGET = "PodDisruptionBudget"
OPERATOR = {"app.kubernetes.io/component": "kuberay-operator"}
"""On its pods, whether its chart or its kustomize base was installed; their names differ."""


def network_policies(naming: Naming) -> list[Object]:
    """From outside, the API's port and nothing else; engines, GCS and dashboard only inside.

    The operator puts Serve's config in force through the dashboard, so it alone may reach it;
    the token guards it besides. What pods may reach is not limited: weights come from outside.
    """
    s = naming.settings
    inside = {"from": [{"podSelector": {"matchLabels": naming.selector}}]}
    api: Object = {"ports": _ports(s.network.port)}
    if s.network.client_namespaces:
        api["from"] = [_namespace(n) for n in s.network.client_namespaces]
    operator = _namespace(s.network.operator_namespace) | {"podSelector": {"matchLabels": OPERATOR}}
    watched = {"from": [operator], "ports": _ports(DASHBOARD_PORT)}
    scraper = [_namespace(s.monitoring.namespace)]
    scraped = {"from": scraper, "ports": _ports(METRICS_PORT, s.network.port)}
    spec = {
        "podSelector": {"matchLabels": naming.selector},
        "policyTypes": ["Ingress"],
        "ingress": [inside, api, watched, scraped],
    }
    return [naming.object("networking.k8s.io/v1", "NetworkPolicy", spec=spec)]


def client_service(naming: Naming) -> Object:
    """Where clients come: the ingress's pods that listen, and no others.

    The operator's own Service also selects engines' pods, at the same port; nobody listens there.
    """
    s = naming.settings
    ports = [{"name": "http", "port": s.network.port, "targetPort": DOOR, "protocol": "TCP"}]
    spec = {
        "type": s.network.service_type,
        "selector": naming.selector | {GROUP_LABEL: INGRESS},
        "ports": ports,
    }
    return naming.object("v1", "Service", spec=spec)


def disruption_budgets(naming: Naming, groups: Sequence[WorkerGroup]) -> list[Object]:
    """One pod of a group may go at a time; a group of one pod may lose it, or its node could never
    drain.

    Pods of custom resources only allow budgets by number (``minAvailable``), so whoever changes a
    group's size changes its budget too.
    """
    counts = {INGRESS: naming.settings.ingress_replicas} | {g.name: g.pods for g in groups}
    return [
        naming.object(
            "policy/v1",
            BUDGET,
            name,
            spec={
                "minAvailable": least_available(count),
                "selector": {"matchLabels": naming.selector | {GROUP_LABEL: name}},
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
            },
        )
        for name, count in counts.items()
    ]


def least_available(pods: int) -> int:
    """How many pods of a group a drain leaves."""
    return max(0, pods - 1)


def _ports(*ports: int) -> list[Object]:
    return [{"port": p, "protocol": "TCP"} for p in ports]


def _namespace(name: str | None) -> Object:
    return {"namespaceSelector": {"matchLabels": {NAMESPACE_NAME: name}} if name else {}}
