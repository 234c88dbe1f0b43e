"""GuideLLM's benchmark report: one run for each strategy of a sweep.

What it calls ``inter_token_latency_ms``, (last token - first) / (tokens - 1), is TPOT here; its own
``time_per_output_token_ms`` divides otherwise, and differently from version to version. The
strategy ``throughput`` sends everything at once, which shows no steady load: it is left out.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence

from profiler.core import Profile
from profiler.errors import InputError
from profiler.importers.fields import Node
from profiler.importers.runs import Run, Source, profile_of
from profiler.importers.setting import Setting

PERCENTILE = re.compile(r"p(\d\d)(\d*)")


def read(documents: Sequence[Node], setting: Setting) -> list[Profile]:
    """One profile from all runs of all files: they are runs of one engine.

    Raises:
        InputError: with the path of the key that is wrong, or why no law follows.
    """
    benchmarks = [b for document in documents for b in document["benchmarks"].items()]
    runs = [run for b in benchmarks if (run := _run(b))]
    first = documents[0]
    if not runs:
        raise InputError(
            f"{first['benchmarks'].where}: no run at a steady load; use a rate type such as "
            "synchronous, concurrent, constant or poisson"
        )
    source = Source("GuideLLM", None, _date(benchmarks[0]))
    return [profile_of(runs, setting, setting.only_gpu(first.where), source)]


def _run(benchmark: Node) -> Run | None:
    """A benchmark as a run; None for the strategy that sends everything at once."""
    strategy = (benchmark.get("config") or benchmark["args"])["strategy"]
    kind = strategy["type_"].text()
    if kind == "throughput":
        return None
    closed = kind in {"synchronous", "concurrent"}
    streams = strategy.get("streams")
    metrics = benchmark["metrics"]
    completed = _of(metrics, "request_latency").get("count")
    return Run(
        where=benchmark.where,
        input_tokens=_mean(metrics, "prompt_token_count"),
        output_tokens=_mean(metrics, "output_token_count"),
        rate_rps=_mean(metrics, "requests_per_second"),
        ttft_s=_mean(metrics, "time_to_first_token_ms") / 1e3,
        tpot_s=_mean(metrics, "inter_token_latency_ms") / 1e3,
        arrivals="closed" if closed else "poisson" if kind in {"poisson", "async"} else "even",
        concurrency=1 if kind == "synchronous" else streams.number(above=0) if streams else None,
        completed=int(completed.number()) if completed else None,
        tails=_tails(metrics),
    )


def _of(metrics: Node, name: str) -> Node:
    return metrics[name]["successful"]


def _mean(metrics: Node, name: str) -> float:
    return _of(metrics, name)["mean"].number(above=0)


def _tails(metrics: Node) -> dict[float, tuple[float, float]]:
    ttft = _of(metrics, "time_to_first_token_ms").get("percentiles")
    tpot = _of(metrics, "inter_token_latency_ms").get("percentiles")
    if ttft is None or tpot is None:
        return {}
    return {
        float(f"0.{m[1]}{m[2]}"): (node.amount() / 1e3, tpot[key].amount() / 1e3)
        for key, node in ttft.entries()
        if (m := PERCENTILE.fullmatch(key)) and key in tpot
    }


def _date(benchmark: Node) -> dt.date | None:
    start = (benchmark.get("run_stats") or benchmark).get("start_time")
    return dt.datetime.fromtimestamp(start.number(above=0), dt.UTC).date() if start else None
