"""What one decision of a router costs: one core's time of the whole `route` call.

python -m benchmarks.router_decisions
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from benchmarks import router_tasks as tasks
from placement.limits import Limits
from placement.plan import AUTO, Plan, PlannedRouter
from placement.planner import make_plan
from placement.problem import Option, Problem, RequestClass, Stock, load_matrix
from profiler.catalog import load_catalog
from profiler.core import Profile, SizeBucket, Slo
from profiler.roofline import roofline_profile
from serve_apps.router.artefact import Artefact
from serve_apps.router.base import Router, RouteRequest
from serve_apps.router.difficulty import bins_of
from serve_apps.router.learned import LearnedRouter
from serve_apps.router.prompts import Prompt
from serve_apps.router.training import train

CHARS_PER_TOKEN = 4
WARM_UP = 50


@dataclass(frozen=True)
class DecisionTimes:
    """Microseconds per decision: this thread's own time, and the wall's, other programs and all."""

    p50_us: float
    p99_us: float
    wall_p50_us: float
    wall_p99_us: float


def time_decisions(router: Router, prompts: Sequence[Prompt]) -> DecisionTimes:
    """Decide each prompt once, as ``model: "auto"``; the first few only warm up."""
    requests = [
        RouteRequest(AUTO, max(1, len(p.text) // CHARS_PER_TOKEN), p.max_output_tokens, p)
        for p in prompts
    ]
    times = np.zeros((len(requests), 2))
    for i, request in enumerate(requests):
        wall, own = time.perf_counter(), time.thread_time()
        router.route(request)
        times[i] = time.thread_time() - own, time.perf_counter() - wall
    p50, p99 = np.quantile(times[min(WARM_UP, len(times) // 2) :] * 1e6, [0.5, 0.99], axis=0)
    return DecisionTimes(float(p50[0]), float(p99[0]), float(p50[1]), float(p99[1]))


def learned_router_decisions(artefact: Artefact, prompts: Sequence[Prompt]) -> DecisionTimes:
    """The learned router of a plan for Llama 3.1 8B and 70B on A100s, five difficulty bins."""
    return time_decisions(LearnedRouter(_plan(artefact), artefact), prompts)


def _plan(artefact: Artefact) -> Plan:
    names = {"llama-3.1-8b": tasks.LLAMA_8B, "llama-3.1-70b": tasks.LLAMA_70B}
    bins = bins_of(artefact.reference_estimates().only(list(names.values())), 5)
    catalog = load_catalog()
    gpu = catalog.gpu("A100-80GB")
    price = gpu.price.usd_per_hour("on_demand") or 2.0
    options = []
    for name, size in (("llama-3.1-8b", 1), ("llama-3.1-70b", 4)):
        profile = roofline_profile(catalog.model(name), gpu, size)
        assert isinstance(profile, Profile)
        options.append(Option(profile, "on_demand", size * price))
    bucket = SizeBucket(
        input_range=(0, 2000), output_range=(0, 2000), input_tokens=300, output_tokens=400
    )
    classes = tuple(
        RequestClass(AUTO, bucket, 20 * share, difficulty=k)
        for k, share in enumerate(bins.share.tolist())
    )
    slo = Slo(ttft_s=4.0, tpot_s=0.15)
    low, high = (bins.share @ bins.quality).tolist()
    problem = Problem(
        slo=slo,
        classes=classes,
        options=tuple(options),
        stocks=(Stock(gpu.name, "on_demand"),),
        headroom=0.85,
        load_s=load_matrix(classes, options, slo),
        quality=bins.quality,
        limits=Limits(quality_mean={AUTO: (low + high) / 2}),
        models={name: catalog.model(name) for name in names},
        gpus={gpu.name: gpu},
        router=PlannedRouter(
            artefact="router.npz",
            sha256="0" * 64,
            models=names,
            edges=tuple(bins.edges.tolist()),
        ),
    )
    return make_plan(problem, "benchmark", gap=0.05)


def main() -> None:
    """Train on half of the ZeroEval outcomes, decide the other half, print the figures."""
    tables = tasks.load(tasks.DATA)
    train_on, test = tasks.split(tables.zeroeval, 0.5, 0)
    found = learned_router_decisions(train(train_on), test.prompts)
    print(
        f"LearnedRouter.route: p50 {found.p50_us:.0f} us, p99 {found.p99_us:.0f} us "
        f"(wall: {found.wall_p50_us:.0f}, {found.wall_p99_us:.0f})"
    )
    print(json.dumps(asdict(found)))


if __name__ == "__main__":
    main()
