"""Our whole path on Ray Serve over a backend at hand: two models, learned routing on.

``python -m benchmarks.gateway_ours BACKEND_PORT`` prints the port of the ingress and the id of its
process once it answers, and ends when its standard input does.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import re
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

from placement.explanation import Prices
from placement.plan import Cost, Plan, PlannedRouter, ReplicaGroup, Route
from profiler.core import (
    EngineOptions,
    GpuType,
    ModelSpec,
    Price,
    Profile,
    Provenance,
    ReplicaConfig,
    SizeBucket,
    Slo,
    StepTime,
)
from profiler.engine import free_port
from profiler.files import sha256_of
from serve_apps.pool import IngressSettings, RouterFiles
from serve_apps.router.difficulty import bins_of
from serve_apps.router.outcomes import Outcomes
from serve_apps.router.prompts import Prompt
from serve_apps.router.training import train

MODELS = {"small": 0.1, "large": 0.5}
"""Their prices in dollars per hour."""
CONTEXT_TOKENS = 131_072
PROMPTS = 400
READY_TIMEOUT_S = 120.0
DAY = dt.date(2026, 1, 1)


class Backend:
    """An engine replica as Serve sees it; the engine is the backend of the benchmark."""

    def __init__(self, url: str) -> None:
        self._url = url

    def record_replica_metadata(self) -> dict[str, str]:
        """Where it listens."""
        return {"url": self._url}


def outcomes() -> Outcomes:
    """Made answers: the small model fails on what is long and full of numbers."""
    rng = np.random.default_rng(0)
    words = "the what why how capital of city river friend write letter poem sum"
    prompts, score = [], []
    for i in range(PROMPTS):
        text = " ".join(rng.choice(words.split(), 12))
        if i % 2:
            text += " ".join(str(n) for n in rng.integers(1, 9999, 30)) + " prove the integral"
        prompts.append(Prompt(text))
        score.append([float(i % 2 == 0), 1.0])
    unknown = np.full((PROMPTS, 2), np.nan)
    return Outcomes(
        prompts=tuple(prompts),
        dataset=("made",) * PROMPTS,
        subject=("made",) * PROMPTS,
        models=tuple(MODELS),
        score=np.array(score),
        output_tokens=np.full((PROMPTS, 2), 20.0),
        input_tokens=unknown,
        usd=unknown,
    )


def planned(directory: Path, replicas: int) -> Plan:
    """A plan over engines too fast to be the limit, with a router trained for it."""
    path = directory / "router.npz"
    artefact = train(outcomes())
    artefact.save(path)
    edges = bins_of(artefact.reference_estimates(), 2).edges.tolist()
    router = PlannedRouter(
        artefact=path.name, sha256=sha256_of(path), models={m: m for m in MODELS}, edges=edges
    )
    bucket = SizeBucket(
        input_range=(0, 1000), output_range=(0, 1000), input_tokens=1000, output_tokens=1000
    )
    routes = tuple(
        Route(stream="auto", bucket=bucket, rate_rps=1000, difficulty=k, shares={name: 1.0})
        for k, name in enumerate(MODELS)
    )
    money = Cost(
        usd_per_hour=sum(MODELS.values()) * replicas,
        usd_per_million_tokens=1,
        lower_bound_usd_per_hour=0.1,
        gap=0,
        lp_bound_usd_per_hour=0.1,
    )
    return Plan(
        service="bench",
        slo=Slo(ttft_s=10, tpot_s=1, attainment=0.95),
        headroom=0.85,
        cost=money,
        groups=tuple(_group(name, usd, replicas) for name, usd in MODELS.items()),
        models={m: _model(m) for m in MODELS},
        gpus={"made": _gpu()},
        routes=routes,
        prices=Prices(quality={"auto": 5.0}, load={"small": 0.12, "large": 0.6}),
        router=router,
    )


def _group(name: str, usd_per_hour: float, replicas: int) -> ReplicaGroup:
    engine = EngineOptions(max_num_seqs=1024, max_num_batched_tokens=1_000_000)
    law = StepTime(
        base_s=1e-5, per_prefill_token_s=1e-10, per_sequence_s=1e-9, per_kv_token_s=1e-15,
        batch_extra_s=(),
    )  # fmt: skip
    profile = Profile(
        config=ReplicaConfig(model=name, gpu="made", engine=engine),
        step_time=law,
        kv_capacity_tokens=1_000_000_000,
        max_model_len=CONTEXT_TOKENS,
        provenance=Provenance(kind="roofline", date=DAY),
    )
    return ReplicaGroup(
        name=name, market="on_demand", replicas=replicas, usd_per_hour=usd_per_hour, load=0.5,
        profile=profile,
    )  # fmt: skip


def _model(name: str) -> ModelSpec:
    return ModelSpec(
        name=name, weights=f"made/{name}", total_params=10**8, active_params=10**8, layers=4,
        hidden_size=256, kv_heads=2, head_dim=64, context_tokens=CONTEXT_TOKENS,
    )  # fmt: skip


def _gpu() -> GpuType:
    price = Price(on_demand_usd_per_hour=0.1, source="made", as_of=DAY)
    return GpuType(
        name="made", vendor="nvidia", memory_gb=80, bandwidth_gb_per_s=2000,
        fp16_tflop_per_s=300, price=price,
    )  # fmt: skip


def run(backend_url: str, directory: Path, replicas: int) -> int:
    """Start it on Ray Serve; the port of the ingress."""
    from ray import serve
    from ray.serve import api
    from ray.serve.config import RequestRouterConfig

    from serve_apps.app import INGRESS_APP, ingress_application
    from serve_apps.discovery import ENGINE
    from serve_apps.replica_router import GROUP, ROUTER

    plan, port = planned(directory, replicas), free_port()

    def engines(group: str) -> Any:
        router = RequestRouterConfig(
            request_router_class=ROUTER, request_router_kwargs={GROUP: group}
        )
        made = serve.deployment(
            Backend,
            name=ENGINE,
            num_replicas=replicas,
            ray_actor_options={"num_cpus": 0},
            request_router_config=router,
        )
        return made.bind(backend_url)

    apps = [api.RunTarget(engines(name), name=name, route_prefix=None) for name in MODELS]
    files = RouterFiles(artefact=str(directory / plan.router.artefact)) if plan.router else None
    settings = IngressSettings(port=port, replicas=1, drain_timeout_s=1.0)
    front = ingress_application(plan, settings, files)
    api.run_many([*apps, api.RunTarget(front, name=INGRESS_APP, route_prefix="/")])
    _until_ready(port)
    return port


def _until_ready(port: int) -> None:
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.2)


def ingress_pid() -> int:
    """The process that answers, by the title that Ray gives it."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                title = (entry / "cmdline").read_bytes()
                parents = _ancestors(int(entry.name))
            except OSError:
                continue
            if title.startswith(b"ray::ServeReplica:Ingress") and os.getpid() in parents:
                return int(entry.name)
    raise ProcessLookupError("no ingress process of this benchmark's Ray was found")


def _ancestors(pid: int) -> set[int]:
    found: set[int] = set()
    while pid > 1:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        pid = int(re.findall(r"^PPid:\s+(\d+)", status, re.MULTILINE)[0])
        found.add(pid)
    return found


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("backend_port", type=int)
    parser.add_argument("--replicas", type=int, default=2)
    given = parser.parse_args()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    root = str(Path(__file__).parents[1])
    os.environ["PYTHONPATH"] = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    os.environ["OMP_NUM_THREADS"] = "1"
    from orchestrator.deploy.local_supervisor import start_ray, stop_ray

    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as directory:
        try:
            start_ray()
            port = run(f"http://127.0.0.1:{given.backend_port}", Path(directory), given.replicas)
            print(port, ingress_pid(), flush=True)
            sys.stdin.read()
        finally:
            stop_ray(drain=False)


if __name__ == "__main__":
    main()
