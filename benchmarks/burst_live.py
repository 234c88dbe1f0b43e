"""A burst on live processes: always the large model, against the router that bends.

    python -m benchmarks.burst_live [--stand] [--seconds 10]

Two models, an emulated engine each, on Ray Serve (with ``--stand``: without Ray). Calm, then three
times what the large model can do, then calm again. ``large``: each request names the large model.
``ours``: each asks for ``auto``, which in a calm hour is the large model for all. Attainment is the
share of all requests that were answered in full with TTFT and TPOT inside the SLO. Quality is the
share of answers by the large model. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.fault_cases import Figures
from benchmarks.gateway_ours import outcomes
from benchmarks.stand import Pool, Stand, made_plan
from benchmarks.stand_client import Client, Reply, arrivals, at
from placement.explanation import Prices
from placement.plan import Plan, PlannedRouter, Route
from profiler.core import Slo
from profiler.engine import free_port
from profiler.files import sha256_of
from serve_apps.router.difficulty import bins_of
from serve_apps.router.training import train

SLO = Slo(ttft_s=1.0, tpot_s=0.1, attainment=0.95)
TOKENS = 24
LARGE = Pool("large", "large", engines=1, step_s=0.02, per_sequence_s=5e-4, max_num_seqs=8)
SMALL = Pool(
    "small", "small", engines=1, step_s=0.008, per_sequence_s=1e-4, max_num_seqs=16,
    usd_per_hour=0.2,
)  # fmt: skip
LARGE_RPS = LARGE.max_num_seqs / (TOKENS * (LARGE.step_s + LARGE.per_sequence_s * 8))
"""What the large model can do: all slots taken, each answer as long as it takes."""
CALM, BURST = 0.5, 3.0
POLICIES = {"large": "large", "ours": "auto"}


def burst_plan(directory: Path) -> tuple[Plan, Path]:
    """A made fleet behind a router, and the router's file."""
    return routed(made_plan([LARGE, SMALL], SLO, TOKENS), directory)


def routed(plan: Plan, directory: Path) -> tuple[Plan, Path]:
    """In a calm hour all that name no model go to the large one; and the router's file."""
    path = directory / "router.npz"
    artefact = train(outcomes())
    artefact.save(path)
    edges = bins_of(artefact.reference_estimates(), 2).edges.tolist()
    bucket = plan.routes[0].bucket
    routes = tuple(
        Route(stream="auto", bucket=bucket, rate_rps=3, difficulty=k, shares={"large": 1.0})
        for k in range(len(edges) + 1)
    )
    router = PlannedRouter(
        artefact=path.name,
        sha256=sha256_of(path),
        models={p.model: p.model for p in (LARGE, SMALL)},
        edges=edges,
    )
    prices = Prices(quality={"auto": 5.0}, load={"large": 0.3, "small": 0.05})
    made = {"routes": routes, "router": router, "prices": prices, "service": "burst"}
    return plan.model_copy(update=made), path


def times_of(seconds: float, large_rps: float = LARGE_RPS) -> list[float]:
    """Arrivals of calm, burst and calm, each so long."""
    found: list[float] = []
    for i, share in enumerate((CALM, BURST, CALM)):
        found += [i * seconds + t for t in arrivals(share * large_rps, seconds, seed=i)]
    return found


def kept(reply: Reply, slo: Slo = SLO) -> bool:
    """Whether a request was answered inside the SLO."""
    if not reply.ok or reply.first_s is None:
        return False
    tpot_s = (reply.took_s - reply.first_s) / (TOKENS - 1)
    return reply.first_s <= slo.ttft_s and tpot_s <= slo.tpot_s


async def burst(url: str, model: str, times: Sequence[float], slo: Slo = SLO) -> Figures:
    """One run under one policy."""
    async with Client(url) as client:
        await client.ask(model=model, stream=True, tokens=2)
        replies = await at(
            times,
            lambda i: client.ask(model=model, prompt=_prompt(i), stream=True, tokens=TOKENS),
        )
    answered = [r for r in replies if r.ok]
    large = sum(_model(r) == "large" for r in answered)
    return {
        "requests": len(replies),
        "attainment": sum(kept(r, slo) for r in replies) / len(replies),
        "answered": len(answered) / len(replies),
        "refused": sum(r.status == 429 for r in replies) / len(replies),
        "by_the_large_model": large / max(len(answered), 1),
    }


def _prompt(i: int) -> str:
    return f"what of river {i}" if i % 2 else f"prove the integral of {i} 77 1234 88 4321"


def _model(reply: Reply) -> str:
    return {k.lower(): v for k, v in reply.headers.items()}.get("x-orchestrator-model", "")


@contextlib.contextmanager
def on_ray(plan: Plan, artefact: Path, directory: Path, *, emulate: bool = True) -> Iterator[str]:
    """The plan on Ray Serve, its engines emulated or real: the base URL of its ingress."""
    from orchestrator.deploy.local import delete_local, deploy_local

    root = directory / "state"
    try:
        status = deploy_local(
            plan, port=free_port(), wait_s=300, root=root, artefact=artefact, emulate=emulate
        )
        yield status.url.removesuffix("/v1")
    finally:
        delete_local(plan.service, root=root)


@contextlib.contextmanager
def on_stand(plan: Plan, artefact: Path) -> Iterator[str]:
    """The same without Ray."""
    with Stand(plan=plan, artefact=str(artefact), output_tokens=TOKENS) as stand:
        yield stand.url


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stand", action="store_true", help="without Ray")
    parser.add_argument("--seconds", type=float, default=10.0, help="of calm, of burst, of calm")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="burst-") as tmp:
        directory = Path(tmp)
        plan, artefact = burst_plan(directory)
        place = on_stand(plan, artefact) if given.stand else on_ray(plan, artefact, directory)
        with place as url:
            found = {
                name: asyncio.run(burst(url, model, times_of(given.seconds)))
                for name, model in POLICIES.items()
            }
    for name, figures in found.items():
        print(name.ljust(6), ", ".join(f"{k} {v:.3g}" for k, v in figures.items()))
    told = {n: {k: round(v, 4) for k, v in f.items()} for n, f in found.items()}
    print(json.dumps({"place": "stand" if given.stand else "ray", "burst": BURST, **told}))


if __name__ == "__main__":
    main()
