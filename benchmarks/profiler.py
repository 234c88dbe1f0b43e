"""How far a profile's predictions are from what is measured afterwards.

    python -m benchmarks.profiler [--live-only | --silicon-only] [--budget-minutes 2.5]

Live: starts vLLM with SmolLM2-135M on this machine's CPU, profiles it, then measures it at points
the fit has not seen: closed loops at several concurrencies and sizes, and an open-loop burst. The
simulator predicts each from the profile alone. An error is the median over these points of
|predicted - measured| / measured, for the median TPOT and TTFT of a point's requests and for its
output tokens per second.

Silicon: the same for published measurements, see `benchmarks.silicon`. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import aiohttp
import numpy as np
from rich.console import Console
from rich.table import Table

from orchestrator.profiling import START_TIMEOUT_S, describe
from orchestrator.replica import Replica, Request
from orchestrator.simulator import simulate_trace
from profiler.catalog import load_catalog
from profiler.client import open_session, random_token_ids, replay, stream_completion
from profiler.core import EngineOptions, Profile, ReplicaConfig
from profiler.engine import VllmServer
from profiler.errors import OrchestratorError
from profiler.measure import Measurement, Progress, measure_engine
from profiler.timing import RequestTiming, raise_for
from profiler.traces import Trace
from profiler.weights import local_weights

MODEL = "smollm2-135m"
LIMITS = EngineOptions(max_model_len=2048, max_num_seqs=32, max_num_batched_tokens=512)
RAMP_S = 0.15
TURN_S = 1e-3
"""A client's turn takes a moment: it misses the step that starts as its last answer ends."""
METRICS = ("tpot", "ttft", "throughput")
TARGETS = {"tpot": 0.10, "ttft": 0.20, "throughput": 0.10}
console = Console(highlight=False, width=130)


@dataclass(frozen=True)
class Loop:
    """Clients that each send their next request when the last one ended.

    They start one by one, ``RAMP_S`` apart, and ask for answers of slightly different lengths.
    """

    clients: int
    input_tokens: int
    output_tokens: int
    rounds: int

    def __str__(self) -> str:
        return f"{self.clients} x {self.input_tokens}+{self.output_tokens}"

    def sizes(self) -> list[list[tuple[int, int]]]:
        """Input and output tokens of each request of each client; the same at every call."""
        rng = np.random.default_rng(self.clients)
        shape = (self.clients, self.rounds)
        inputs = rng.integers(self.input_tokens * 3 // 4, self.input_tokens * 5 // 4, shape)
        outputs = rng.integers(self.output_tokens * 3 // 4, self.output_tokens * 5 // 4, shape)
        return [
            list(zip(i, o, strict=True))
            for i, o in zip(inputs.tolist(), outputs.tolist(), strict=True)
        ]


LOOPS = (
    Loop(1, 150, 24, 4),
    Loop(2, 80, 30, 4),
    Loop(4, 120, 24, 4),
    Loop(5, 350, 20, 2),
    Loop(9, 50, 30, 3),
    Loop(17, 60, 24, 2),
    Loop(27, 25, 20, 2),
)


@dataclass(frozen=True)
class Seen:
    """What one point showed: medians over its requests, and output tokens per second."""

    tpot_s: float
    ttft_s: float
    throughput: float


def seen(
    sent_s: Sequence[float], first_s: Sequence[float], last_s: Sequence[float], out: Sequence[int]
) -> Seen:
    """From the times of each request and its output tokens."""
    requests = list(zip(sent_s, first_s, last_s, out, strict=True))
    return Seen(
        tpot_s=median((last - first) / (n - 1) for _, first, last, n in requests if n > 1),
        ttft_s=median(first - sent for sent, first, _, _ in requests),
        throughput=sum(out) / (max(last_s) - min(sent_s)),
    )


def predict_loop(profile: Profile, loop: Loop) -> Seen:
    """The loop on one simulated engine."""
    engine, overhead_s = Replica(profile, 0, None), profile.request_overhead_s
    plan = [list(reversed(sizes)) for sizes in loop.sizes()]
    due = [(client * RAMP_S, client) for client in range(loop.clients)]
    running: dict[int, Request] = {}
    done: list[Request] = []
    while due or running:
        due.sort()
        while due and (not running or due[0][0] <= engine.clock_s):
            at_s, client = due.pop(0)
            running[client] = Request(at_s, *plan[client].pop())
            engine.submit(running[client])
        engine.advance(engine.clock_s + 1e-9)  # one step
        for client in [c for c, r in running.items() if np.isfinite(r.finish_s)]:
            request = running.pop(client)
            done.append(request)
            if plan[client]:
                due.append((request.finish_s + overhead_s + TURN_S, client))
    return seen(
        [r.arrival_s for r in done],
        [r.first_token_s + overhead_s for r in done],
        [r.finish_s + overhead_s for r in done],
        [r.output_tokens for r in done],
    )


async def measure_loop(session: aiohttp.ClientSession, url: str, model: str, loop: Loop) -> Seen:
    """The loop on the real engine."""
    rng = np.random.default_rng()

    async def client(number: int, sizes: list[tuple[int, int]]) -> list[RequestTiming]:
        await asyncio.sleep(number * RAMP_S)
        found = []
        for inputs, outputs in sizes:
            prompt = random_token_ids(rng, inputs)
            found.append(
                await stream_completion(session, url, model, prompt, outputs, exact_length=True)
            )
        return found

    clients = [client(i, sizes) for i, sizes in enumerate(loop.sizes())]
    return of_timings([t for c in await asyncio.gather(*clients) for t in c], url)


def of_timings(timings: Sequence[RequestTiming], url: str) -> Seen:
    """What measured requests showed; raises when one failed."""
    for timing in timings:
        raise_for(timing, url)
    return seen(
        [t.sent_s if t.due_s is None else t.due_s for t in timings],
        [t.tokens[0][0] for t in timings],
        [t.tokens[-1][0] for t in timings],
        [t.output_tokens for t in timings],
    )


def burst(seed: int = 7, requests: int = 45, over_s: float = 12.0) -> Trace:
    """More requests than the engine keeps up with, for a while; sizes as a chat has them."""
    rng = np.random.default_rng(seed)
    arrivals = np.sort(rng.uniform(0, over_s, requests))
    return Trace(
        arrival_s=arrivals - arrivals[0],
        input_tokens=np.clip(rng.lognormal(np.log(50), 0.6, requests), 8, 300).astype(np.int64),
        output_tokens=np.clip(rng.lognormal(np.log(18), 0.5, requests), 4, 60).astype(np.int64),
        source="burst",
    )


async def held_out(url: str, model: str, profile: Profile) -> list[tuple[str, Seen, Seen]]:
    """Name, prediction and measurement of each point."""
    rows = []
    async with open_session() as session:
        for loop in LOOPS:
            found = await measure_loop(session, url, model, loop)
            rows.append((str(loop), predict_loop(profile, loop), found))
            print(f"  measured {loop}")
    trace = burst()
    timings = await replay(url, model, trace, rng=np.random.default_rng())
    told = simulate_trace(profile, trace)
    predicted = seen(
        told.arrival_s.tolist(),
        told.first_token_s.tolist(),
        told.finish_s.tolist(),
        told.output_tokens.tolist(),
    )
    rows.append(
        (f"burst of {len(timings)} in {trace.arrival_s[-1]:.0f} s", predicted,
         of_timings(timings, url))
    )  # fmt: skip
    return rows


def errors(rows: Sequence[tuple[str, Seen, Seen]]) -> dict[str, float]:
    """Median absolute relative error of each metric."""
    names = {"tpot": "tpot_s", "ttft": "ttft_s", "throughput": "throughput"}
    return {
        metric: median(
            abs(getattr(told, name) / getattr(found, name) - 1) for _, told, found in rows
        )
        for metric, name in names.items()
    }


def show(rows: Sequence[tuple[str, Seen, Seen]]) -> None:
    """Predicted (told) and measured, side by side."""
    table = Table(box=None, pad_edge=False)
    table.add_column("not in the fit", no_wrap=True)
    for name in ("TPOT ms", "TTFT ms", "tokens/s"):
        table.add_column(f"{name}: told", justify="right")
        table.add_column("measured", justify="right")
        table.add_column("error", justify="right")
    for name, told, found in rows:
        cells = []
        for field, scale in (("tpot_s", 1e3), ("ttft_s", 1e3), ("throughput", 1.0)):
            p, m = getattr(told, field), getattr(found, field)
            cells += [f"{p * scale:,.1f}", f"{m * scale:,.1f}", f"{p / m - 1:+.0%}"]
        table.add_row(name, *cells)
    console.print(table)


def profile_engine(budget_s: float, server: VllmServer, config: ReplicaConfig) -> Measurement:
    """Profile the engine, saying where it stands."""

    def said(progress: Progress) -> None:
        print(f"  {progress.elapsed_s:5.0f} of {progress.budget_s:.0f} s: {progress.probe}")

    found = measure_engine(server.url, config, budget_s=budget_s, on_progress=said)
    for point, error in found.residuals():
        print(
            f"  {point.kind:8} N={point.sequences:<4} P={point.prefill_tokens:<5} "
            f"steps={point.steps:<3} {point.time_s * 1e3:8.1f} ms  fit {error:+.0%}  "
            f"spread {point.spread:.0%} of {point.repeats}"
        )
    for label, value in describe(found.profile):
        print(f"  {label}: {value}")
    return found


def live(budget_minutes: float) -> dict[str, float]:
    """The live half: figures by name."""
    catalog = load_catalog()
    model, cpu = catalog.model(MODEL), catalog.gpu("cpu")
    config = ReplicaConfig(model=model.name, gpu=cpu.name, engine=LIMITS)
    print(f"load average before: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores")
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="orchestrator-bench-") as tmp:
        weights = local_weights(model)
        with VllmServer(config, model, cpu, weights, log_path=Path(tmp, "engine.log")) as server:
            server.wait_ready(START_TIMEOUT_S)
            ready_s = time.perf_counter() - start
            found = profile_engine(budget_minutes * 60, server, config)
            minutes = (time.perf_counter() - start) / 60
            print(f"profile: {minutes:.1f} minutes, {ready_s:.0f} s of it to start the engine")
            rows = asyncio.run(held_out(server.url, config.model, found.profile))
    show(rows)
    print(f"load average after: {os.getloadavg()[0]:.2f}")
    by_metric = errors(rows)
    for metric in METRICS:
        verdict = "met" if by_metric[metric] <= TARGETS[metric] else "MISSED"
        print(f"{metric}: {by_metric[metric]:.1%}, at most {TARGETS[metric]:.0%}: {verdict}")
    figures = {f"live_{metric}_err": round(by_metric[metric], 4) for metric in METRICS}
    return figures | {"profile_minutes": round(minutes, 2)}


def silicon() -> dict[str, float]:
    """The silicon half; nothing where its module or its package is not there."""
    try:
        module = importlib.import_module("benchmarks.silicon")
        figures: dict[str, float] = module.figures()
    except (ImportError, OrchestratorError) as error:
        print(f"silicon figures left out: {error}")
        return {}
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--live-only", action="store_true")
    parser.add_argument("--silicon-only", action="store_true")
    parser.add_argument("--budget-minutes", type=float, default=2.5, help="for the live profile")
    args = parser.parse_args()
    figures: dict[str, float] = {}
    if not args.silicon_only:
        figures |= live(args.budget_minutes)
    if not args.live_only:
        figures |= silicon()
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
