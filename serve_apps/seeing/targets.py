"""How Prometheus finds every ingress process and every engine: its HTTP service discovery."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from serve_apps.seeing.paths import ENGINE_TARGETS_PATH, INGRESS_TARGETS_PATH
from serve_apps.seeing.snapshot import ReplicaState, Snapshot

INGRESS_JOB, ENGINE_JOB = "orchestrator-ingress", "orchestrator-engine"


def ingress_targets(snapshot: Snapshot, path: str, asked: str) -> list[dict[str, Any]]:
    """Each ingress process by an address of its own: they share the port that clients use.

    Where none has one, the address that was ``asked``: right for a single process. Addresses that
    name a port alone are of the host that was asked.
    """
    host = asked.rpartition(":")[0] or asked
    known = [host + a if a.startswith(":") else a for a in snapshot.ingresses]
    labels = {"service": snapshot.service, "__metrics_path__": path}
    return [{"targets": known or [asked], "labels": labels}]


def engine_targets(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Each engine, with the labels by which vLLM's own metrics join ours."""
    model = {g.name: g.model for g in snapshot.groups}
    found = []
    for r in snapshot.replicas:
        url = urlsplit(r.url)
        if not url.netloc or r.state is ReplicaState.STARTING:
            continue
        labels = {
            "service": snapshot.service,
            "group": r.group,
            "model": model.get(r.group, ""),
            "replica": r.id,
            "__scheme__": url.scheme,
            "__metrics_path__": url.path.rstrip("/") + "/metrics",
        }
        found.append({"targets": [url.netloc], "labels": labels})
    return found


def scrape_config(url: str, key_file: str | None = None) -> dict[str, Any]:
    """Prometheus's ``scrape_configs`` for a pool at ``url``.

    ``key_file`` holds the admin key, as Prometheus sees the file system. Engines never get it.
    """
    authorization = {"authorization": {"credentials_file": key_file}} if key_file else {}

    def job(name: str, path: str, own: dict[str, Any]) -> dict[str, Any]:
        discovery = {"url": url.rstrip("/") + path, "refresh_interval": "15s", **authorization}
        return {
            "job_name": name,
            "scrape_interval": "15s",
            "honor_labels": True,
            "http_sd_configs": [discovery],
            **own,
        }

    return {
        "scrape_configs": [
            job(INGRESS_JOB, INGRESS_TARGETS_PATH, authorization),
            job(ENGINE_JOB, ENGINE_TARGETS_PATH, {}),
        ]
    }
