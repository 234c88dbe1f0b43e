"""Where Prometheus finds every ingress process and every engine (its HTTP service discovery)."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from serve_apps.seeing.snapshot import ReplicaState, Snapshot


def targets(snapshot: Snapshot, ingress_path: str) -> list[dict[str, Any]]:
    """Target groups as ``http_sd_configs`` takes them.

    Ingress processes share a port, so each is named by an address of its own. Engines get the
    labels ``service``, ``group`` and ``model``, by which vLLM's own metrics join ours.
    """
    common = {"service": snapshot.service}
    found: list[dict[str, Any]] = []
    if snapshot.ingresses:
        labels = {**common, "job": "orchestrator-ingress", "__metrics_path__": ingress_path}
        found.append({"targets": list(snapshot.ingresses), "labels": labels})
    model = {g.name: g.model for g in snapshot.groups}
    for r in snapshot.replicas:
        url = urlsplit(r.url)
        if not url.netloc or r.state is ReplicaState.STARTING:
            continue
        labels = {
            **common,
            "job": "orchestrator-engine",
            "group": r.group,
            "model": model.get(r.group, ""),
            "replica": r.id,
            "__scheme__": url.scheme,
            "__metrics_path__": url.path.rstrip("/") + "/metrics",
        }
        found.append({"targets": [url.netloc], "labels": labels})
    return found
