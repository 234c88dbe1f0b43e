"""Find the parameters of the burst benchmark's policies, each rule with as much care as ours.

    python -m benchmarks.burst_tuning [CASE ...]

On the earlier part of each trace, with prompts and seeds that the test does not use; all by one
aim: the mean of what was earned (quality inside the SLO over always-large) and of attainment.
Each rule gets `TRIALS` settings: a grid for those with one parameter, and for the four of the queue
rule a search one parameter at a time, round and round. What is found stands in
`benchmarks.burst_cases`. The last line is JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from itertools import cycle
from multiprocessing import get_context
from typing import Any

import numpy as np

from benchmarks.burst import TUNING_SEEDS
from benchmarks.burst_cases import CASES, Case, asked_of, prepare, setting_of
from benchmarks.burst_load import BASE, Scenario
from benchmarks.burst_run import Asked, Build, priced, queue_rule, run, threshold
from orchestrator.simulation.load_rules import QueueSettings

TRIALS = 16
SEEDS = 2
WORTHS = (
    0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.3, 0.5, 0.8, 1.2, 2.0, 3.0, 5.0, 10.0,
)  # fmt: skip
MARGINS = (
    0.0, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.12, 0.15, 0.2, 0.25, 0.3,
)  # fmt: skip
START = QueueSettings(high=0.8, low=0.6, hold_s=0.0, margin=0.02)
HIGHS = (0.3, 0.5, 0.8, 1.1, 1.5)
LOW_SHARES = (0.5, 0.75, 0.95)
HOLDS_S = (0.0, 3.0, 15.0)
QUEUE_MARGINS = (-1.0, 0.0, 0.02, 0.05, 0.1)
Vary = Callable[[QueueSettings], Iterator[QueueSettings]]


def practice(case: Case, seeds: int) -> list[Asked]:
    """What is tuned on."""
    asked = (
        Scenario(case.source, 1.0),
        Scenario(case.source, 2.0),
        Scenario(case.source, 4.0, span_s=150.0),
        Scenario(case.source, BASE, 5.0),
    )
    return [asked_of(case, s, TUNING_SEEDS + k, tuning=True) for s in asked for k in range(seeds)]


def aim(asked: Iterable[Asked], build: Build) -> float:
    """The mean of earned share and attainment."""
    found = [run(a, build) for a in asked]
    return float(np.mean([(m.earned_share + m.attainment) / 2 for m in found]))


def best_queue_rule(
    score: Callable[[QueueSettings], float], trials: int
) -> tuple[QueueSettings, float]:
    """One parameter at a time until so many settings were tried or a round found nothing new."""
    known = {START: score(START)}
    best, idle = START, 0
    for vary in cycle(VARIED):
        fresh = [s for s in vary(best) if s not in known][: trials - len(known)]
        known |= {s: score(s) for s in fresh}
        idle = 0 if fresh else idle + 1
        best = max(known, key=lambda s: known[s])
        if len(known) >= trials or idle == len(VARIED):
            break
    return best, known[best]


def _highs(at: QueueSettings) -> Iterator[QueueSettings]:
    return (replace(at, high=h, low=h * at.low / at.high) for h in HIGHS)


def _lows(at: QueueSettings) -> Iterator[QueueSettings]:
    return (replace(at, low=at.high * share) for share in LOW_SHARES)


def _holds(at: QueueSettings) -> Iterator[QueueSettings]:
    return (replace(at, hold_s=h) for h in HOLDS_S)


def _margins(at: QueueSettings) -> Iterator[QueueSettings]:
    return (replace(at, margin=m) for m in QUEUE_MARGINS)


VARIED: tuple[Vary, ...] = (_margins, _highs, _lows, _holds)


def tuned(case: Case) -> dict[str, Any]:
    """The best setting of each rule, and the score of all that were tried on a grid."""
    asked = practice(case, SEEDS)
    worths = {w: aim(asked, priced(w)) for w in WORTHS}
    margins = {m: aim(asked, threshold(m)) for m in MARGINS}
    queue, score = best_queue_rule(lambda s: aim(asked, queue_rule(s)), TRIALS)
    print(f"{case.name}: ours by worth {_shown(worths)}")
    print(f"{case.name}: threshold by margin {_shown(margins)}")
    print(f"{case.name}: queue rule {queue} {score:.4f}", flush=True)
    return {
        "worth_usd": max(worths, key=lambda w: worths[w]),
        "margin": max(margins, key=lambda m: margins[m]),
        "queue": asdict(queue),
        "scores": {
            "ours": round(max(worths.values()), 4),
            "threshold": round(max(margins.values()), 4),
            "queue rule": round(score, 4),
        },
    }


def main() -> None:
    """Search and print."""
    chosen = [c for c in CASES if not sys.argv[1:] or c.name in sys.argv[1:]]
    prepare(setting_of(chosen))  # before the workers are made: they share it
    with ProcessPoolExecutor(2, get_context("fork")) as pool:
        found = dict(zip([c.name for c in chosen], pool.map(tuned, chosen), strict=True))
    print(json.dumps(found))


def _shown(scores: dict[float, float]) -> str:
    return ", ".join(f"{k:g}: {v:.4f}" for k, v in scores.items())


if __name__ == "__main__":
    main()
