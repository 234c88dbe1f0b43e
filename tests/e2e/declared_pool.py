"""Deploys plans through Ray's declarative API on a Ray of its own, and prints what became of them.

A process of its own, since Ray leaves threads and sockets behind.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
import time
import urllib.request
from typing import Any

import ray
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema

from manifests.serve_config import ActorOptions, as_data, market_selector, serve_config
from placement.plan import Plan
from serve_apps.pool import IngressSettings
from serve_apps.seeing.paths import INGRESS_TARGETS_PATH
from tests import kube_builders as kb

HOST = "127.0.0.1"
PEERS = tempfile.mkdtemp(prefix="orch-peers-")
LABELS = {"ray.io/accelerator-type": "L4", "ray.io/market-type": "on-demand"}


def put(client: Any, plan: Plan, port: int) -> None:
    config = serve_config(
        plan,
        ingress=IngressSettings(host=HOST, port=port, replicas=2, active=2, peers=PEERS),
        ingress_actor=ActorOptions(resources={"ingress": 1}),
        actor=lambda p, g: ActorOptions(num_gpus=1, label_selector=market_selector(p, g)),
        emulate=True,
    )
    client.deploy_apps(ServeDeploySchema.model_validate(as_data(config)))


def replicas(client: Any, wanted: int) -> dict[str, Any]:
    """The engine replicas of ``chat`` once there are so many and everything runs."""
    for _ in range(240):
        apps = client.get_serve_details()["applications"]
        running = all(a["status"] == "RUNNING" for a in apps.values())
        chat = next((a for n, a in apps.items() if n.startswith("chat.")), {})
        found = chat.get("deployments", {}).get("engine", {}).get("replicas", [])
        if running and len(found) == wanted:
            return {"ids": sorted(r["replica_id"] for r in found)}
        time.sleep(0.5)
    return {"apps": {n: [a["status"], a["message"]] for n, a in apps.items()}}


def opened(port: int) -> None:
    """Wait as a Service does: nobody is sent to an ingress that has not found engines yet."""
    for _ in range(240):
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/health/ready", timeout=30):
                return
        except OSError:
            time.sleep(0.5)


def ask(port: int) -> int:
    body = {"model": "m1", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
    request = urllib.request.Request(
        f"http://{HOST}:{port}/v1/chat/completions",
        json.dumps(body).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return int(answer.status)


def listening(port: int) -> list[str]:
    """The ingress processes that share the port, as the metrics of each name it."""
    with urllib.request.urlopen(f"http://{HOST}:{port}{INGRESS_TARGETS_PATH}") as answer:
        (found,) = json.load(answer)
    names = set()
    for target in found["targets"]:
        with urllib.request.urlopen(f"http://{target}/metrics", timeout=30) as answer:
            names |= set(re.findall(r'ingress="([^"]+)"', answer.read().decode()))
    return sorted(names)


def main(port: int) -> None:
    ray.init(
        address="local",
        include_dashboard=False,
        object_store_memory=100 * 2**20,
        num_cpus=2,
        num_gpus=2,
        resources={"ingress": 2},
        labels=LABELS,
        log_to_driver=False,
    )
    try:
        serve.start(proxy_location="Disabled")
        client = _get_global_client()
        put(client, kb.plan(kb.group("chat")), port)
        told: dict[str, Any] = {"first": replicas(client, 1)}
        opened(port)
        told["answer"] = ask(port)
        told["ingresses"] = listening(port)
        more = kb.plan(kb.group("chat", replicas=2, usd_per_hour=9.0))
        l4 = more.gpus["L4"]
        price = l4.price.model_copy(update={"on_demand_usd_per_hour": 9.0})
        dearer = {"L4": l4.model_copy(update={"price": price})}
        put(client, more.model_copy(update={"gpus": dearer}), port)
        told |= {"then": replicas(client, 2), "again": ask(port)}
        sys.stdout.write(json.dumps(told) + "\n")
    finally:
        serve.shutdown()
        ray.shutdown()
        shutil.rmtree(PEERS, ignore_errors=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
