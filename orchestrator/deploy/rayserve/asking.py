"""What the ingresses of a service on a Ray cluster tell of its load, asked on all their nodes."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Mapping

from orchestrator.deploy.rayserve.config import ingress_name
from orchestrator.deploy.rayserve.seen import Seen
from orchestrator.watching import look as look_at
from orchestrator.watching import opener
from placement.plan import Plan
from profiler.errors import ClusterError
from serve_apps.seeing.paths import METRICS_PATH

KEY_VARIABLE = "ORCHESTRATOR_ADMIN_KEY"
TIMEOUT_S = 10.0
MOST_BYTES = 32 * 1024 * 1024
ARRIVALS = "orchestrator_arrivals"

Count = tuple[str, str, str]
"""An ingress process, a stream, and the key of one of its size buckets."""


def ingress_urls(seen: Seen) -> list[str]:
    """Where the ingresses listen, one to a node: those of one node share a port."""
    name = ingress_name(seen.service)
    args = (seen.configs.get(name) or {}).get("args") or {}
    host = args.get("host") or ""
    if host and host != "0.0.0.0":
        hosts = {host} if seen.replicas(name) else set()
    else:
        hosts = {r["node_ip"] for r in seen.replicas(name) if r.get("node_ip")}
    return [f"http://{h}:{args.get('port', 0)}" for h in sorted(hosts)]


def loads(seen: Seen, plan: Plan) -> dict[str, float]:
    """Requests in each group over what its running replicas take at a time, as far as ingresses
    tell; empty where one does not."""
    busy: dict[str, float] = {}
    for url in ingress_urls(seen):
        try:
            told = look_at(url, os.environ.get(KEY_VARIABLE))
            for group in told["groups"]:
                at_work = float(group["in_flight"]) + float(group["queued"])
                busy[group["name"]] = busy.get(group["name"], 0.0) + at_work
        except (ClusterError, KeyError, TypeError, ValueError):
            return {}
    found = {}
    for group in plan.groups:
        running = len(seen.replicas(seen.app_of.get(group.name, "")))
        if running and group.name in busy:
            slots = running * group.config.engine.max_num_seqs
            found[group.name] = round(busy[group.name] / slots, 3)
    return found


def arrivals(url: str) -> Mapping[Count, float]:
    """Requests that arrived at a node's ingress since it started.

    Raises:
        ClusterError: it cannot be asked, or tells none.
    """
    from prometheus_client.parser import text_string_to_metric_families

    families = text_string_to_metric_families(_metrics(url))
    found: dict[Count, float] = {}
    known = False
    for family in families:
        if family.name != ARRIVALS:
            continue
        known = True
        for sample in family.samples:
            if sample.name == f"{ARRIVALS}_total":
                labels = sample.labels
                key = (labels.get("ingress", ""), labels["stream"], labels["bucket"])
                found[key] = sample.value
    if not known:
        raise ClusterError(f"{url} does not count arrivals")
    return found


def _metrics(url: str) -> str:
    key = os.environ.get(KEY_VARIABLE)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    asked = urllib.request.Request(url + METRICS_PATH, headers=headers)
    try:
        with opener(url).open(asked, timeout=TIMEOUT_S) as answer:
            text: str = answer.read(MOST_BYTES).decode("utf-8", "replace")
            return text
    except urllib.error.HTTPError as error:
        mend = f"; give the admin key as {KEY_VARIABLE}" if error.code in (401, 403) else ""
        raise ClusterError(f"{url}{METRICS_PATH}: {error.code}{mend}") from None
    except OSError as error:
        raise ClusterError(f"{url}{METRICS_PATH}: {getattr(error, 'reason', error)}") from None
