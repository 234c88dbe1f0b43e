"""Results of ``vllm bench serve`` (once ``benchmark_serving.py``), one run a file or a line.

Sizes are the means of ``input_lens`` and ``output_lens``, or of the totals. A run is a closed loop
where ``max_concurrency`` is set and the request rate is infinite, and has Poisson arrivals where
the rate is finite. With neither, all requests come at once and nothing is steady: it is left out.
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

PERCENTILE = re.compile(r"p(\d+(?:\.\d+)?)_ttft_ms")


def read(documents: Sequence[Node], setting: Setting) -> list[Profile]:
    """One profile from all files together: they are runs of one engine.

    Raises:
        InputError: with the path of the key that is wrong, or why no law follows.
    """
    runs = [run for document in documents if (run := _run(document))]
    first = documents[0]
    if not runs:
        raise InputError(
            f"{first.where}: all requests were sent at once, which shows no steady load; run the "
            "benchmark with --max-concurrency or a finite --request-rate"
        )
    backend = first.get("backend") or first.get("endpoint_type")
    source = Source("vllm bench serve", backend.text() if backend else None, _date(first))
    return [profile_of(runs, setting, setting.only_gpu(first.where), source)]


def _run(document: Node) -> Run | None:
    completed = document["completed"].number(above=0)
    rate, limit = document.get("request_rate"), document.get("max_concurrency")
    endless = rate is None or rate.data in {"inf", float("inf")}
    if endless and limit is None:
        return None
    return Run(
        where=document.where,
        input_tokens=_mean(document, "input_lens", "total_input_tokens", completed),
        output_tokens=_mean(document, "output_lens", "total_output_tokens", completed),
        rate_rps=document["request_throughput"].number(above=0),
        ttft_s=document["mean_ttft_ms"].number(above=0) / 1e3,
        tpot_s=document["mean_tpot_ms"].number(above=0) / 1e3,
        arrivals="closed" if endless else "poisson",
        concurrency=limit.number(above=0) if limit else None,
        completed=int(completed),
        tails=dict(_tails(document)),
    )


def _mean(document: Node, lengths: str, total: str, completed: float) -> float:
    """The mean size of the requests that completed; a failed one has an output length of 0."""
    found = document.get(lengths)
    outputs = document.get("output_lens")
    if found is None or outputs is None:
        return document[total].number(above=0) / completed
    sizes = [n.amount() for n in found.items()]
    answered = [n.amount() > 0 for n in outputs.items()]
    if len(sizes) != len(answered) or not any(answered):
        raise found.wrong(f"as many lengths as output_lens, {len(answered)}, and one answered")
    kept = [size for size, ok in zip(sizes, answered, strict=True) if ok]
    return sum(kept) / len(kept)


def _tails(document: Node) -> list[tuple[float, tuple[float, float]]]:
    names = {float(m[1]): m[1] for k, _ in document.entries() if (m := PERCENTILE.fullmatch(k))}
    fields = {0.5: "median"} | {p / 100: f"p{text}" for p, text in names.items()}
    return [
        (share, (ttft.amount() / 1e3, tpot.amount() / 1e3))
        for share, name in fields.items()
        if (ttft := document.get(f"{name}_ttft_ms")) and (tpot := document.get(f"{name}_tpot_ms"))
    ]


def _date(document: Node) -> dt.date | None:
    written = document.get("date")
    if written is None:
        return None
    try:
        return dt.datetime.strptime(written.text()[:8], "%Y%m%d").replace(tzinfo=dt.UTC).date()
    except ValueError:
        raise written.wrong("a date such as 20250131-120000") from None
