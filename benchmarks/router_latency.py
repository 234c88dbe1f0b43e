"""What a decision of the learned router takes: features, estimates, choice, one prompt at a time.

    python -m benchmarks.router_latency [--data DIR] [--prompts N] [--rounds K]

Prompts of every file of outcomes, those of each at random, by an artefact with default settings
trained on the first ones of MMLU-Pro (29 models), whose prompts are decided too: only time is
measured. Times are of this thread's processor, with the wall's beside them. "Least of K" takes each
prompt's quickest of K rounds, which leaves out what other programs on the machine do to caches;
the plain distribution is over all rounds but the first. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.router_tasks import DATA
from serve_apps.router.artefact import Artefact, load_artefact
from serve_apps.router.outcomes import Outcomes, read_outcomes
from serve_apps.router.policies.base import Ask
from serve_apps.router.policies.utility import Utility
from serve_apps.router.prompts import Prompt
from serve_apps.router.training import train

Floats = NDArray[np.float64]
FILES = ("routellm", "mmlu_pro", "zeroeval", "llmrouter_9models")
TRAINED_ON = 10_000
BATCH = 64


def main() -> None:
    """Print the figures, then all of them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--prompts", type=int, default=500, help="prompts of each file")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    tables = {name: read_outcomes(given.data / f"{name}.parquet") for name in FILES}
    artefact, found = _trained(tables["mmlu_pro"])
    rng = np.random.default_rng(0)
    prompts: list[Prompt] = []
    for name, table in tables.items():
        some = rng.choice(len(table.prompts), min(given.prompts, len(table.prompts)), replace=False)
        own = [table.prompts[i] for i in some]
        prompts += own
        _say(name, own, _timed(lambda p: _decide(artefact, [p]), own, given.rounds))
    parts: dict[str, Callable[[Prompt], object]] = {
        "decision": lambda p: _decide(artefact, [p]),
        "features": lambda p: artefact.features.transform([p]),
        "estimate": lambda p: artefact.estimate([p]),
    }
    for name, part in parts.items():
        times = _timed(part, prompts, given.rounds)
        found |= _say(name, prompts, times)
    batches = [prompts[i : i + BATCH] for i in range(0, len(prompts) - BATCH, BATCH)]
    times = _timed(lambda b: _decide(artefact, b), batches, given.rounds)
    found |= _say(f"batch_{BATCH}", prompts, times)
    print(f"load average {os.getloadavg()[0]:.1f}")
    print(json.dumps({name: round(value, 2) for name, value in found.items()}))


def _trained(table: Outcomes) -> tuple[Artefact, dict[str, float]]:
    """As loaded from its file, with CPU seconds of training and MB of the file."""
    few = table.rows(np.arange(min(len(table.prompts), TRAINED_ON)))
    began = time.process_time()
    artefact = train(few)
    found = {"train_cpu_s": time.process_time() - began}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "router.npz"
        artefact.save(path)
        found["artefact_mb"] = path.stat().st_size / 1e6
        began = time.process_time()
        artefact = load_artefact(path)
        found["load_cpu_s"] = time.process_time() - began
    print(
        f"trained on {len(few.prompts)} prompts of {len(few.models)} models: "
        f"{found['train_cpu_s']:.1f} CPU s, {found['artefact_mb']:.1f} MB, "
        f"loaded in {found['load_cpu_s']:.1f} CPU s"
    )
    return artefact, found


def _decide(artefact: Artefact, prompts: Sequence[Prompt]) -> None:
    estimates = artefact.estimate(prompts)
    for quality, price in zip(
        estimates.quality.tolist(), estimates.output_tokens.tolist(), strict=True
    ):
        Utility(1e5).choose(Ask(artefact.models, quality, price))


def _timed(part: Callable[[Any], object], given: Sequence[Any], rounds: int) -> Floats:
    """Microseconds ``[rounds, given, CPU and wall]``; a first round is thrown away."""
    times = np.empty((rounds + 1, len(given), 2))
    for i in range(rounds + 1):
        for k, one in enumerate(given):
            wall, own = time.perf_counter(), time.thread_time()
            part(one)
            times[i, k] = time.thread_time() - own, time.perf_counter() - wall
    return times[1:] * 1e6


def _say(name: str, prompts: Sequence[Prompt], times: Floats) -> dict[str, float]:
    least, plain = times.min(axis=0), times.reshape(-1, 2)
    found = {}
    for kind, of in (("least", least), ("plain", plain)):
        for column, clock in enumerate(("cpu", "wall")):
            for q in (50, 99):
                found[f"{name}_{kind}_{clock}_p{q}_us"] = float(np.percentile(of[:, column], q))
    size = np.percentile([len(p.text) for p in prompts], [50, 99])
    print(
        f"{name:20s} characters p50 {size[0]:.0f} p99 {size[1]:.0f}; us p50, p99:"
        + "".join(
            f"  {kind} {clock} {found[f'{name}_{kind}_{clock}_p50_us']:.0f}, "
            f"{found[f'{name}_{kind}_{clock}_p99_us']:.0f}"
            for kind in ("least", "plain")
            for clock in ("cpu", "wall")
        ),
        flush=True,
    )
    return found


if __name__ == "__main__":
    main()
