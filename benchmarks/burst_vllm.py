"""A burst on real vLLM engines of this machine's CPU: always the large model, against the router.

    python -m benchmarks.burst_vllm [--seconds 20] [--budget 30]

Two cores, an engine on each: SmolLM2-135M-Instruct, and a small model cut from it, its first four
of thirty layers, which answers several times as fast (and badly: this is about time, not about
answers). Each is profiled here first, alone. In the pool they share the two cores with each other,
with client, ingress and Ray, so both are slower there than by their profiles. The limits leave room
for that: TTFT 2 s, TPOT `SHARED` times the large profile's step with all four slots taken. What the
large engine can do is measured in the pool: four at a time for as long as each phase. Then calm,
three times that, and calm again, as in `benchmarks.burst_live`, each policy on the same pool and
arrivals. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.burst_live import BURST, POLICIES, TOKENS, burst, on_ray, routed, times_of
from benchmarks.stand_client import Client
from orchestrator.profiling import profile_here
from placement.plan import Cost, Plan, ReplicaGroup, Route
from profiler.catalog import load_catalog
from profiler.core import EngineOptions, ModelSpec, Profile, ReplicaConfig, SizeBucket, Slo
from profiler.weights import local_weights

MODEL = "smollm2-135m"
LAYERS = 4
SLOTS = {"large": 4, "small": 16}
PAUSE_S = 0.05
PROMPT_TOKENS = 45
"""Of the prompts asked, with the chat template."""
SHARED = 4.0
"""Two engines on two cores, each of which the rest needs too: half of a half."""
TTFT_S = 2.0


def shallow(large: ModelSpec, directory: Path) -> ModelSpec:
    """The model's first layers as a model of its own, written to the directory."""
    from safetensors.torch import load_file, save_file

    source = Path(local_weights(large))
    directory.mkdir()
    for path in source.iterdir():
        if path.suffix != ".safetensors":
            shutil.copy(path, directory)
    config = directory / "config.json"
    config.write_text(
        json.dumps(json.loads(config.read_text()) | {"num_hidden_layers": LAYERS}, indent=2)
    )
    weights = load_file(source / "model.safetensors")
    mine = {k: v for k, v in weights.items() if _layer(k) < LAYERS}
    save_file(mine, directory / "model.safetensors", metadata={"format": "pt"})
    params = sum(v.numel() for v in mine.values())
    return large.model_copy(
        update={
            "name": "small",
            "weights": str(directory),
            "layers": LAYERS,
            "total_params": params,
            "active_params": params,
        }
    )


def _layer(weight: str) -> int:
    parts = weight.split(".")
    return int(parts[parts.index("layers") + 1]) if "layers" in parts else -1


def profiled(model: ModelSpec, budget_s: float) -> Profile:
    """What one engine of a model does here, alone."""
    options = EngineOptions(
        max_num_seqs=SLOTS[model.name], max_num_batched_tokens=512, max_model_len=1024
    )
    config = ReplicaConfig(model=model.name, gpu="cpu", engine=options)
    return profile_here(model, load_catalog().gpu("cpu"), config, budget_s=budget_s).profile


def full_step_s(profile: Profile) -> float:
    """A step with all slots taken, half way through the answers."""
    slots = profile.config.engine.max_num_seqs
    context = slots * (PROMPT_TOKENS + TOKENS / 2)
    return float(profile.step_time(0, slots, context))


def slo_of(large: Profile) -> Slo:
    """Limits that an engine can keep which has a fraction of the machine."""
    return Slo(ttft_s=TTFT_S, tpot_s=round(SHARED * full_step_s(large), 3), attainment=0.95)


async def able_rps(url: str, model: str, seconds: float) -> float:
    """What one model does in the pool with as many at work as it has slots, whatever the SLO."""
    until_s = time.perf_counter() + seconds
    done = 0

    async def worker(client: Client) -> None:
        nonlocal done
        while time.perf_counter() < until_s:
            reply = await client.ask(model=model, stream=True, tokens=TOKENS)
            if reply.ok:
                done += time.perf_counter() <= until_s
            else:
                await asyncio.sleep(PAUSE_S)

    async with Client(url) as client:
        await client.ask(model=model, stream=True, tokens=2)
        await asyncio.gather(*(worker(client) for _ in range(SLOTS[model])))
    return max(done, 1) / seconds


def plan_of(models: list[ModelSpec], profiles: dict[str, Profile]) -> Plan:
    """One replica of each; requests that name no model go to the large one."""
    groups = tuple(
        ReplicaGroup(
            name=m.name, market="on_demand", replicas=1, usd_per_hour=1.0 / (1 + i), load=0.5,
            profile=profiles[m.name],
        )
        for i, m in enumerate(models)
    )  # fmt: skip
    bucket = SizeBucket(
        input_range=(0, 512), output_range=(0, 512), input_tokens=PROMPT_TOKENS,
        output_tokens=TOKENS,
    )  # fmt: skip
    routes = tuple(
        Route(stream=m.name, bucket=bucket, rate_rps=1.0, shares={m.name: 1.0}) for m in models
    )
    rent = sum(g.usd_per_hour for g in groups)
    cost = Cost(
        usd_per_hour=rent, usd_per_million_tokens=1, lower_bound_usd_per_hour=rent, gap=0,
        lp_bound_usd_per_hour=rent,
    )  # fmt: skip
    return Plan(
        service="burst-vllm",
        slo=slo_of(profiles["large"]),
        headroom=0.85,
        cost=cost,
        groups=groups,
        models={m.name: m for m in models},
        gpus={"cpu": load_catalog().gpu("cpu")},
        routes=routes,
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of calm, of burst, of calm")
    parser.add_argument("--budget", type=float, default=30.0, help="seconds of each profile")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="burst-") as tmp:
        directory = Path(tmp)
        large = load_catalog().model(MODEL).model_copy(update={"name": "large"})
        models = [large, shallow(large, directory / "shallow")]
        profiles = {m.name: profiled(m, given.budget) for m in models}
        for name, profile in profiles.items():
            print(f"{name}: a full step takes {full_step_s(profile) * 1e3:.1f} ms", file=sys.stderr)
        plan, artefact = routed(plan_of(models, profiles), directory)
        with on_ray(plan, artefact, directory, emulate=False) as url:
            large_rps = asyncio.run(able_rps(url, "large", given.seconds))
            times = times_of(given.seconds, large_rps)
            print(f"large: {large_rps:.2f} requests/s in the pool", file=sys.stderr)
            found = {
                name: asyncio.run(burst(url, model, times, plan.slo))
                for name, model in POLICIES.items()
            }
    for name, figures in found.items():
        print(name.ljust(6), ", ".join(f"{k} {v:.3g}" for k, v in figures.items()))
    told = {n: {k: round(v, 4) for k, v in f.items()} for n, f in found.items()}
    profiled_rps = SLOTS["large"] / (TOKENS * full_step_s(profiles["large"]))
    capacity = {
        "large_rps": round(large_rps, 2),
        "large_rps_by_profile": round(profiled_rps, 2),
        "tpot_slo_s": plan.slo.tpot_s,
    }
    print(json.dumps({"place": "ray, vllm", "burst": BURST, **capacity, **told}))


if __name__ == "__main__":
    main()
