"""How far a profile's predictions are from what is measured at points that it has not seen.

    python -m benchmarks.profiler [--live-only | --silicon-only] [--budget-minutes 2.5]

Live: starts vLLM with SmolLM2-135M on this machine's CPU and profiles it in pieces. Between the
pieces, in an order drawn anew at each run, come the held-out points of `benchmarks.loops`: closed
loops at several concurrencies and sizes, and an open-loop burst. They are fixed beforehand and
take no part in the fit; being measured in between, they see the machine at the speed at which the
profile saw it. The simulator predicts each from the finished profile alone. An error is the median
over these points of |predicted - measured| / measured, for the median TPOT and TTFT of a point's
requests and for its output tokens per second.

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
from pathlib import Path
from statistics import median

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.live import PiecewiseProfile, cpu_engine
from benchmarks.loops import CHECKS, Check, Seen
from profiler.errors import OrchestratorError

METRICS = ("tpot", "ttft", "throughput")
TARGETS = {"tpot": 0.10, "ttft": 0.20, "throughput": 0.10}
CHECKS_BETWEEN = 2
"""Held-out points between two pieces of the profile."""
console = Console(highlight=False, width=130)
Row = tuple[str, Seen, Seen]
"""Name of a point, what the profile predicts, what was measured."""


def errors(rows: Sequence[Row]) -> dict[str, float]:
    """Median absolute relative error of each metric."""
    names = {"tpot": "tpot_s", "ttft": "ttft_s", "throughput": "throughput"}
    return {
        metric: median(
            abs(getattr(told, name) / getattr(found, name) - 1) for _, told, found in rows
        )
        for metric, name in names.items()
    }


def show(rows: Sequence[Row]) -> None:
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


def measured(
    url: str, model: str, profile: PiecewiseProfile, groups: Sequence[Sequence[Check]]
) -> dict[Check, Seen]:
    """Measure the profile and, between its pieces, the held-out points."""
    profile.measure()
    seen: dict[Check, Seen] = {}
    for group in groups:
        for check in group:
            print(f"  held out: {check}", flush=True)
            seen[check] = asyncio.run(check.measure(url, model))
        profile.measure()
    return seen


def live(budget_minutes: float) -> dict[str, float]:
    """The live half: figures by name."""
    order = np.random.default_rng().permutation(len(CHECKS))
    checks = [CHECKS[i] for i in order]
    groups = [checks[i : i + CHECKS_BETWEEN] for i in range(0, len(checks), CHECKS_BETWEEN)]
    print(f"load average before: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores")
    start = time.perf_counter()
    with cpu_engine() as (url, config), tempfile.TemporaryDirectory() as tmp:
        ready_s = time.perf_counter() - start
        profile = PiecewiseProfile(
            url, config, Path(tmp, "points.parquet"),
            budget_s=budget_minutes * 60, pieces=len(groups) + 1,
        )  # fmt: skip
        seen = measured(url, config.model, profile, groups)
    profile.show()
    minutes = (ready_s + profile.taken_s) / 60
    print(f"profile: {minutes:.1f} minutes, {ready_s:.0f} s of it to start the engine")
    rows = [(str(c), c.predict(profile.found.profile), seen[c]) for c in CHECKS]
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
