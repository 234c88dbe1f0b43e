"""Processor time of our gateway by itself: microseconds a request, a stream, a decision.

    python -m benchmarks.gateway_cpu [--seconds S] [--rounds N] [--profile FILE]

The whole path as `benchmarks.gateway` has it, but in this process and without Ray, so that other
processes of a busy machine move its figures little: what counts is the processor time that this
process took (user and system), not how long anything lasted. Of each figure the least of the rounds
is told as well as the median. A decision is what lies between a body and a lease: the prompt read,
its estimate, router, placement, and the lease given back. ``--profile`` writes cProfile's
statistics of 32 connections there. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import cProfile
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import uvloop

from benchmarks.gateway import LOADS, ROOT, Load, _backend
from benchmarks.gateway_ours import MODELS, planned
from serve_apps.api import build_app
from serve_apps.collecting import settle
from serve_apps.door import Door
from serve_apps.flow.nouns import Replica, Result
from serve_apps.gateway import Gateway
from serve_apps.guard.caller import ANONYMOUS
from serve_apps.openai_api import read_chat
from serve_apps.router.artefact import load_artefact
from serve_apps.router.base import RouteRequest
from serve_apps.router.learned import LearnedRouter

REPLICAS = 2
DECISIONS = 4000
ASKED = json.dumps(
    {"model": "auto", "messages": [{"role": "user", "content": "What is the capital of France? "}]}
).encode()


@contextlib.asynccontextmanager
async def gateway(backend: int) -> AsyncIterator[tuple[Gateway, Door]]:
    """Two models with two replicas each over one backend, the learned router in force."""
    with tempfile.TemporaryDirectory(prefix="gateway-cpu-") as directory:
        plan = planned(Path(directory), REPLICAS)
        learned = LearnedRouter(plan, load_artefact(Path(directory, "router.npz")))
    made = Gateway()
    made.configure(plan, learned)
    url = f"http://127.0.0.1:{backend}"
    made.found(Replica(f"{name}-{i}", name, url) for name in MODELS for i in range(REPLICAS))
    door = Door(build_app(made), "127.0.0.1", 0)
    settle()
    made.start()
    await door.open()
    try:
        yield made, door
    finally:
        await door.close(0.0)
        await made.close()


async def asked(port: int, load: Load, seconds: float) -> float:
    """Microseconds of this process a request under a load."""
    command = [
        "-m", "benchmarks.gateway_load", str(port), str(load.connections), str(seconds),
        "--pad", str(load.pad_bytes), "--model", "auto", *(["--stream"] if load.stream else []),
    ]  # fmt: skip
    child = await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    before_s = time.process_time()
    said = json.loads(await child.stdout.read())
    used_s = time.process_time() - before_s
    await child.wait()
    if said["failed"] or not said["answers"]:
        raise RuntimeError(f"{load.name}: {said['failed']:.0f} failed of {said['answers']:.0f}")
    answers: int = said["answers"]
    return used_s * 1e6 / answers


async def decided(made: Gateway) -> float:
    """Microseconds of this process a learned decision, asked one by one."""
    estimating = made.estimating
    assert estimating is not None
    before_s = time.process_time()
    for _ in range(DECISIONS):
        told = read_chat(ASKED, prompts=True)
        route = RouteRequest(told.model, told.input_tokens, None, told.prompt)
        assert told.prompt is not None
        await estimating.prepared(told.prompt, alone=True)
        lease = await made.dispatcher.dispatch(route, ANONYMOUS)
        lease.done(Result.OK, 16)
    return (time.process_time() - before_s) * 1e6 / DECISIONS


async def measure(seconds: float, rounds: int, profile: str | None) -> dict[str, list[float]]:
    """Figures of each round by name."""
    found: dict[str, list[float]] = {}
    loads = {load.name: load for load in LOADS if not load.pad_bytes}
    with _backend() as backend:
        async with gateway(backend) as (made, door):
            await asked(door.port, loads["one"], min(seconds, 1.0))  # warm
            for _ in range(rounds):
                for name, load in loads.items():
                    found.setdefault(name, []).append(await asked(door.port, load, seconds))
                found.setdefault("decision", []).append(await decided(made))
            if profile is not None:
                with cProfile.Profile() as watched:
                    await asked(door.port, loads["many"], seconds)
                watched.dump_stats(profile)
    return found


def main() -> None:
    """Print the figures, then all of them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", metavar="FILE", help="also write cProfile's statistics")
    given = parser.parse_args()
    found = uvloop.run(measure(given.seconds, given.rounds, given.profile))
    figures = {}
    for name, us in found.items():
        figures[f"{name}_us"] = round(statistics.median(us), 1)
        figures[f"{name}_least_us"] = round(min(us), 1)
        print(f"{name:10s} {statistics.median(us):7.1f} us, at least {min(us):7.1f}")
    print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} processors")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
