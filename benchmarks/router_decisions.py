"""What one decision of a router costs: one core's time of the whole `route` call."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from placement.plan import AUTO
from serve_apps.router.base import Router, RouteRequest
from serve_apps.router.prompts import Prompt

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


def learned_router_decisions(prompts: int = 2000) -> DecisionTimes:
    """The learned router with default features and estimator, on the prompts it was not fitted to.

    Trained on half of the ZeroEval outcomes at hand, for a plan of two models in two groups.
    """
    from benchmarks import router_tasks as tasks
    from placement.explanation import Prices
    from placement.plan import PlannedRouter
    from serve_apps.router.difficulty import bins_of
    from serve_apps.router.learned import LearnedRouter
    from serve_apps.router.training import train
    from tests.plan_builders import group, plan, route

    tables = tasks.load(tasks.DATA)
    train_on, test = tasks.split(tables.zeroeval, 0.5, 0)
    artefact = train(train_on)
    names = [tasks.LLAMA_8B, tasks.LLAMA_70B]
    bins = bins_of(artefact.reference_estimates().only(names), 5)
    made = plan(
        (group("a", "small"), group("b", "big").model_copy(update={"usd_per_hour": 0.5})),
        tuple(
            route(shares).model_copy(update={"difficulty": k})
            for k, shares in enumerate(
                ({"a": 1.0}, {"a": 0.7, "b": 0.3}, {"a": 0.5, "b": 0.5}, {"b": 1.0}, {"b": 1.0})
            )
        ),
    )
    router = PlannedRouter(
        artefact="router.npz",
        sha256="0" * 64,
        models=dict(zip(("small", "big"), names, strict=True)),
        edges=tuple(bins.edges.tolist()),
    )
    prices = Prices(quality={"auto": 5.0}, load={"a": 0.12, "b": 0.6})
    made = made.model_copy(update={"router": router, "prices": prices})
    return time_decisions(LearnedRouter(made, artefact), test.prompts[:prompts])


def main() -> None:
    """Print the figures."""
    import json
    from dataclasses import asdict

    found = learned_router_decisions()
    print(
        f"LearnedRouter.route: p50 {found.p50_us:.0f} us, p99 {found.p99_us:.0f} us "
        f"(wall: {found.wall_p50_us:.0f}, {found.wall_p99_us:.0f})"
    )
    print(json.dumps(asdict(found)))


if __name__ == "__main__":
    main()
