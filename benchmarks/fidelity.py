"""How true the simulator is: a real trace through real vLLM, and through the simulator.

    python -m benchmarks.fidelity [--minutes 10] [--load 0.5] [--trace azure2023_conv.csv.gz]

Starts vLLM with SmolLM2-135M on this machine's CPU and replays the first minutes of a public chat
trace, scaled to what such an engine carries: prompts are a 16th and answers an 8th as long
(the model's context is 2,048 tokens here), and of the requests so many are kept, drawn at random
with a fixed seed, that they fill ``--load`` of the rate at which the law says work never ends.
Arrival times stay as they are. Answers have exactly the trace's length (ignore_eos).

The replay is cut into parts, each starting with an idle engine, and the profile is measured in
pieces before, between and after them: both see the machine at the same speed. Nothing of the
replay enters the profile. The simulator gets the same parts and the finished profile. An error is
|predicted - measured| / measured of a percentile over all requests. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.live import PiecewiseProfile, cpu_engine
from orchestrator.simulator import percentile, simulate_trace
from profiler.capacity import Replica
from profiler.client import replay
from profiler.core import Profile, Slo
from profiler.timing import raise_for
from profiler.traces import Trace, read_trace

TRACE = Path(__file__).resolve().parents[2] / "shared/data/traces/azure2023_conv.csv.gz"
INPUT_SCALE, OUTPUT_SCALE = 1 / 16, 1 / 8
SEED = 0
PARTS = 4
PERCENTS = (50, 90, 99)
SLO = Slo(ttft_s=1.0, tpot_s=0.15)
TARGET = 0.10
console = Console(highlight=False, width=130)


@dataclass(frozen=True)
class Latencies:
    """Seconds, one per request; TPOT is NaN for answers of one token."""

    ttft_s: NDArray[np.float64]
    tpot_s: NDArray[np.float64]

    @property
    def attainment(self) -> float:
        """The share of requests inside both targets of the benchmark's SLO."""
        in_tpot = np.isnan(self.tpot_s) | (self.tpot_s <= SLO.tpot_s)
        return float(np.mean((self.ttft_s <= SLO.ttft_s) & in_tpot))


def shrunk(trace: Trace) -> Trace:
    """The trace with shorter prompts and answers."""

    def short(tokens: NDArray[np.int64], scale: float) -> NDArray[np.int64]:
        return np.maximum(1, np.round(tokens * scale)).astype(np.int64)

    return replace(
        trace,
        input_tokens=short(trace.input_tokens, INPUT_SCALE),
        output_tokens=short(trace.output_tokens, OUTPUT_SCALE),
    )


def thinned(trace: Trace, profile: Profile, load: float) -> Trace:
    """So many of the requests that they keep an engine at this share of its highest rate."""
    sizes = trace.input_tokens.astype(np.float64), trace.output_tokens.astype(np.float64)
    work_s = Replica(profile, *sizes).work_s.mean()
    kept = load / (float(work_s) * trace.mean_rate_rps)
    return trace if kept >= 1 else trace.scaled(kept, "superpose", SEED)


def parts_of(trace: Trace, minutes: float) -> list[Trace]:
    """Equal spans of the trace, each starting at its first request."""
    edges = np.linspace(0, minutes * 60, PARTS + 1)
    return [trace.slice(low, high) for low, high in pairwise(edges)]


def measured(url: str, model: str, part: Trace) -> Latencies:
    """A part on the real engine; raises when a request failed."""
    timings = asyncio.run(replay(url, model, part, rng=np.random.default_rng()))
    for timing in timings:
        raise_for(timing, url)
    return Latencies(
        np.array([t.ttft_s for t in timings], dtype=np.float64),
        np.array([t.tpot_s for t in timings], dtype=np.float64),
    )


def simulated(profile: Profile, part: Trace) -> Latencies:
    """A part on the simulated engine."""
    told = simulate_trace(profile, part)
    return Latencies(told.ttft_s, told.tpot_s)


def pooled(parts: Sequence[Latencies]) -> Latencies:
    """All requests of all parts."""
    return Latencies(
        np.concatenate([p.ttft_s for p in parts]), np.concatenate([p.tpot_s for p in parts])
    )


def show(told: Latencies, found: Latencies) -> dict[str, float]:
    """Print percentiles side by side; the errors by name."""
    table = Table("", "simulated ms", "measured ms", "error", box=None, pad_edge=False)
    figures = {}
    for name in ("ttft", "tpot"):
        for percent in PERCENTS:
            p, m = (percentile(getattr(x, f"{name}_s"), percent) for x in (told, found))
            table.add_row(
                f"{name.upper()} p{percent}", f"{p * 1e3:,.1f}", f"{m * 1e3:,.1f}",
                f"{p / m - 1:+.1%}",
            )  # fmt: skip
            figures[f"{name}_p{percent}_err"] = round(abs(p / m - 1), 4)
    console.print(table)
    print(
        f"inside TTFT {SLO.ttft_s:g} s and TPOT {SLO.tpot_s * 1e3:g} ms: simulated "
        f"{told.attainment:.1%}, measured {found.attainment:.1%}"
    )
    return figures | {
        "attainment_simulated": round(told.attainment, 4),
        "attainment_measured": round(found.attainment, 4),
    }


def run(trace: Trace, minutes: float, load: float, budget_minutes: float) -> dict[str, float]:
    """Measure and simulate; the figures by name."""
    print(f"load average before: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores")
    start = time.perf_counter()
    with cpu_engine() as (url, config), tempfile.TemporaryDirectory() as tmp:
        ready_s = time.perf_counter() - start
        points = Path(tmp, "points.parquet")
        pieces = PiecewiseProfile(
            url, config, points, budget_s=budget_minutes * 60, pieces=PARTS + 1
        )
        pieces.measure()
        parts = parts_of(thinned(trace, pieces.found.profile, load), minutes)
        found = []
        for part in parts:
            print(f"replaying {len(part)} requests in {part.duration_s:.0f} s", flush=True)
            found.append(measured(url, config.model, part))
            pieces.measure()
    pieces.show()
    profile = pieces.found.profile
    for part, real in zip(parts, found, strict=True):
        told = simulated(profile, part)
        print(
            f"{part.mean_rate_rps:.2f} requests/s of {part.input_tokens.mean():.0f}"
            f"+{part.output_tokens.mean():.0f} tokens: median TTFT {np.median(told.ttft_s):.3f} s "
            f"simulated, {np.median(real.ttft_s):.3f} s measured; TPOT "
            f"{np.nanmedian(told.tpot_s):.3f} s, {np.nanmedian(real.tpot_s):.3f} s"
        )
    profile_minutes = (ready_s + pieces.taken_s) / 60
    requests = sum(map(len, parts))
    print(
        f"profile: {profile_minutes:.1f} minutes; replay: {minutes:g} minutes, {requests} requests"
    )
    figures = show(pooled([simulated(profile, p) for p in parts]), pooled(found))
    print(f"load average after: {os.getloadavg()[0]:.2f}")
    return figures | {
        "requests": requests,
        "replay_minutes": minutes,
        "profile_minutes": round(profile_minutes, 2),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trace", type=Path, default=TRACE)
    parser.add_argument("--minutes", type=float, default=10.0, help="of the trace to replay")
    parser.add_argument("--load", type=float, default=0.5, help="share of the highest rate")
    parser.add_argument("--budget-minutes", type=float, default=2.5, help="for the profile")
    args = parser.parse_args()
    if not args.trace.exists():
        parser.error(f"{args.trace} is not here; name a trace with --trace")
    trace = shrunk(read_trace(args.trace).slice(0, args.minutes * 60))
    figures = run(trace, args.minutes, args.load, args.budget_minutes)
    for name in ("ttft_p50", "ttft_p90", "tpot_p50", "tpot_p90"):
        error = figures[f"{name}_err"]
        print(f"{name}: {error:.1%}, aim {TARGET:.0%}: {'met' if error <= TARGET else 'MISSED'}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
