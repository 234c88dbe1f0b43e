"""Find the parameters of the burst benchmark's policies, each rule with as much care as ours.

    python -m benchmarks.burst_tuning [CASE ...]

On the earlier part of each trace, with prompts and seeds that the test does not use; all by one
aim: the mean of what was earned (quality inside the SLO over always-large) and of attainment. The
queue rule's four parameters are searched one at a time, twice round: 26 trials against 8 for our
one. What is found stands in `benchmarks.burst_cases`. The last line is JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, replace

import numpy as np

from benchmarks.burst import TUNING_SEEDS
from benchmarks.burst_cases import CASES, Case, asked_of, prepare, setting_of
from benchmarks.burst_load import BASE, Scenario
from benchmarks.burst_run import Asked, Build, priced, queue_rule, run, threshold
from orchestrator.simulation.load_rules import QueueSettings

WORTHS = (0.02, 0.05, 0.1, 0.3, 0.6, 1.0, 2.0, 5.0)
MARGINS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2)
START = QueueSettings(high=0.8, low=0.6, hold_s=0.0, margin=0.02)
HIGHS = (0.3, 0.5, 0.8, 1.1, 1.5)
LOWS = (0.5, 0.75, 0.95)
HOLDS_S = (0.0, 3.0, 15.0)
QUEUE_MARGINS = (-1.0, 0.0, 0.02, 0.05)


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


def best_queue_rule(asked: list[Asked]) -> tuple[QueueSettings, float]:
    """One parameter at a time, twice round; ``low`` as a share of ``high``."""
    known: dict[QueueSettings, float] = {}

    def score(settings: QueueSettings) -> float:
        if settings not in known:
            known[settings] = aim(asked, queue_rule(settings))
        return known[settings]

    best = START
    for _ in range(2):
        share = best.low / best.high
        best = max((replace(best, high=h, low=h * share) for h in HIGHS), key=score)
        best = max((replace(best, low=best.high * share) for share in LOWS), key=score)
        best = max((replace(best, hold_s=h) for h in HOLDS_S), key=score)
        best = max((replace(best, margin=m) for m in QUEUE_MARGINS), key=score)
    return best, score(best)


def main() -> None:
    """Search and print."""
    chosen = [c for c in CASES if not sys.argv[1:] or c.name in sys.argv[1:]]
    prepare(setting_of(chosen))
    found = {}
    for case in chosen:
        asked = practice(case, seeds=2)
        worths = {w: aim(asked, priced(w)) for w in WORTHS}
        margins = {m: aim(asked, threshold(m)) for m in MARGINS}
        rule, score = best_queue_rule(asked)
        print(f"{case.name}: ours by worth {_shown(worths)}")
        print(f"{case.name}: threshold by margin {_shown(margins)}")
        print(f"{case.name}: queue rule {rule} {score:.4f}", flush=True)
        found[case.name] = {
            "worth_usd": max(worths, key=lambda w: worths[w]),
            "margin": max(margins, key=lambda m: margins[m]),
            "queue": asdict(rule),
        }
    print(json.dumps(found))


def _shown(scores: dict[float, float]) -> str:
    return ", ".join(f"{k:g}: {v:.4f}" for k, v in scores.items())


if __name__ == "__main__":
    main()
