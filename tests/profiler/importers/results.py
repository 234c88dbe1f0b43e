"""Result files of other tools, as they would be written for an engine with a known law."""

import datetime as dt
import json
from types import SimpleNamespace

from profiler.catalog import load_catalog
from profiler.core import StepTime
from profiler.importers import Setting

LAW = StepTime(
    base_s=8e-3, per_prefill_token_s=4e-5, per_sequence_s=6e-5, per_kv_token_s=9e-8
)  # fmt: skip
DAY = dt.date(2026, 1, 1)


def setting(*gpus, **kwargs):
    catalog = load_catalog()
    names = {left: right or left for left, _, right in (g.partition("=") for g in gpus)}
    given = {"model": catalog.model("llama-3.1-8b"), "gpus": names, "read_on": DAY}
    return Setting(catalog=catalog, **(given | kwargs))


def steady(input_tokens, output_tokens, concurrency):
    """A closed loop of so many requests on an engine with the law: means of its times."""
    n, tpot = float(concurrency), 0.0
    for _ in range(500):
        rate = n / (output_tokens - 1) / max(tpot, 1e-3)
        prompts = (1 - 1 / n) * rate * input_tokens * tpot
        tpot = LAW(prompts, n, n * (input_tokens + output_tokens / 2))
        rate = n / (output_tokens - 1) / tpot
    ttft = LAW(input_tokens, 0, 0)
    if concurrency == 1:
        rate = 1 / (ttft + (output_tokens - 1) * tpot)
    return SimpleNamespace(rate_rps=rate, tpot_s=tpot, ttft_s=ttft)


def vllm_result(input_tokens=512, output_tokens=128, concurrency=8, **changed):
    run, completed = steady(input_tokens, output_tokens, concurrency), 20 * concurrency
    return {
        "date": "20260115-101500",
        "backend": "vllm",
        "model_id": "llama",
        "num_prompts": completed,
        "request_rate": "inf",
        "max_concurrency": concurrency,
        "completed": completed,
        "total_input_tokens": completed * input_tokens,
        "total_output_tokens": completed * output_tokens,
        "request_throughput": run.rate_rps,
        "mean_ttft_ms": run.ttft_s * 1e3,
        "mean_tpot_ms": run.tpot_s * 1e3,
        "p99_ttft_ms": run.ttft_s * 1.2e3,
        "p99_tpot_ms": run.tpot_s * 1.1e3,
    } | changed


def guidellm_benchmark(input_tokens=512, output_tokens=128, concurrency=8):
    run = steady(input_tokens, output_tokens, concurrency)

    def summary(mean, tail=1.1):
        return {"successful": {"mean": mean, "count": 400, "percentiles": {"p99": mean * tail}}}

    kind = {"type_": "synchronous"} if concurrency == 1 else {
        "type_": "concurrent", "streams": concurrency
    }  # fmt: skip
    return {
        "args": {"strategy": kind},
        "run_stats": {"start_time": 1749157168.05},
        "metrics": {
            "requests_per_second": summary(run.rate_rps),
            "request_latency": summary(run.ttft_s + run.tpot_s * (output_tokens - 1)),
            "prompt_token_count": summary(input_tokens),
            "output_token_count": summary(output_tokens),
            "time_to_first_token_ms": summary(run.ttft_s * 1e3),
            "inter_token_latency_ms": summary(run.tpot_s * 1e3),
            "time_per_output_token_ms": summary(run.tpot_s * 2e3),
        },
    }


SWEEP = [
    (i, o, n) for i, o in ((64, 128), (512, 128), (2000, 64), (300, 500)) for n in (1, 4, 16, 48)
]  # fmt: skip


def write(path, data):
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path
