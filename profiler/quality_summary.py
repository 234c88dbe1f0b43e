"""An outcome table in one line per model: how often right, how sure, how long, how fast."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from profiler.answer_log import Record
from profiler.outcome_table import mean, usd
from profiler.quality import QualityRun

Z_95 = 1.959964


def wilson(successes: float, trials: int, z: float = Z_95) -> tuple[float, float]:
    """The Wilson score interval of a proportion (Wilson 1927), 95 % unless ``z`` says else.

    With partial scores ``successes`` is their sum; the interval is then wider than need be, since
    no score in [0, 1] of the same mean varies more than a coin.
    """
    if trials == 0:
        return 0.0, 1.0
    p, n = successes / trials, trials
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def summarise(run: QualityRun) -> list[dict[str, Any]]:
    """Per model: counts, accuracy with its 95 % interval, tokens, latency, dollars, by dataset.

    Accuracy is the mean score of what was graded; questions without an answer or a verdict are
    counted beside it, as ``errors`` and ``ungraded``. Figures that are not known are None.
    """
    return [_line(run, model) for model in run.models]


def _line(run: QualityRun, model: str) -> dict[str, Any]:
    found = [run.records.get((q.id, model)) for q in run.questions]
    answered = [r for r in found if r is not None and r.text is not None]
    latencies = sorted(r.latency_s for r in answered if r.latency_s is not None)
    about = run.metadata["models"].get(model, {})
    costs = [c for r in answered if (c := usd(r, about)) is not None]
    datasets = dict.fromkeys(q.dataset for q in run.questions)
    return {
        "model": model,
        "questions": len(run.questions),
        "errors": sum(r is not None and r.text is None for r in found),
        "not_asked": sum(r is None for r in found),
        "ungraded": sum(r.score is None for r in answered),
        "cut_off": sum(r.cut for r in answered),
        **_accuracy(answered),
        "output_tokens_mean": mean([r.output_tokens for r in answered if r.output_tokens]),
        "latency_p50_s": quantile(latencies, 0.5),
        "latency_p90_s": quantile(latencies, 0.9),
        "usd": sum(costs) if costs else None,
        "first_error": next((r.error for r in found if r is not None and r.error), None),
        "first_ungraded": next((r.note for r in answered if r.note), None),
        "down": run.down.get(model),
        "notes": list(about.get("notes", ())),
        "datasets": {name: _accuracy(_of(name, run, found)) for name in datasets},
    }


def _of(dataset: str, run: QualityRun, found: Sequence[Record | None]) -> list[Record]:
    pairs = zip(run.questions, found, strict=True)
    return [r for q, r in pairs if q.dataset == dataset and r is not None and r.text is not None]


def _accuracy(answered: Sequence[Record]) -> Mapping[str, Any]:
    scores = [r.score for r in answered if r.score is not None]
    low, high = wilson(sum(scores), len(scores))
    return {"graded": len(scores), "accuracy": mean(scores), "low": low, "high": high}


def quantile(ordered: Sequence[float], q: float) -> float | None:
    """The quantile of sorted figures, between the two nearest; None of none."""
    if not ordered:
        return None
    at = q * (len(ordered) - 1)
    below = math.floor(at)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (at - below)
