"""Published runs of real engines: ``silicon_sample.csv`` in the package aiconfigurator-core.

They are closed-loop benchmarks of vLLM, SGLang and TensorRT-LLM. A third of the (model, GPU,
engine) triples, chosen by a hash of their names, is held out of every fit.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections import Counter
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from profiler.catalog import load_catalog
from profiler.core import Dtype, GpuType, ModelSpec
from profiler.roofline import GB
from profiler.silicon import package_version

SPLIT = "held out: sha256 of 'model|system|engine' divisible by 3, system as the package calls it"
SYSTEMS = {
    "h100_sxm": "H100", "h200_sxm": "H200", "b200_sxm": "B200", "b300_sxm": "B300",
    "gb200": "GB200",
}  # fmt: skip
MODELS = {
    "deepseek-ai/DeepSeek-R1": "deepseek-v3",
    "deepseek-ai/DeepSeek-V3": "deepseek-v3",
    "MiniMaxAI/MiniMax-M2.5": "minimax-m2.5",
    "openai/gpt-oss-120b": "gpt-oss-120b",
    "moonshotai/Kimi-K2.5": "kimi-k2.5",
    "Qwen/Qwen3-235B-A22B-FP8": "qwen3-235b-a22b",
    "Qwen/Qwen3-32B": "qwen3-32b",
    "meta-llama/Llama-3.1-8B-Instruct": "llama-3.1-8b",
    "nvidia/Llama-3.1-8B-Instruct-FP8": "llama-3.1-8b",
    "meta-llama/Llama-3.1-70B": "llama-3.1-70b",
}
DTYPES: dict[str, Dtype] = {"fp8": "fp8", "fp4": "fp4", "int4": "int4", "bf16": "bf16", "": "bf16"}
FILLED = 0.95  # weights beyond this share of the memory: the row names another layout than it ran


@dataclass(frozen=True)
class Run:
    """One published run, its model with the dtypes it ran in."""

    model: ModelSpec
    gpu: GpuType
    engine: str
    tensor_parallel: int
    clients: int
    input_tokens: int
    output_tokens: int
    ttft_s: float
    tpot_s: float
    row: dict[str, str]

    @property
    def triple(self) -> tuple[str, str, str]:
        """What the split keeps together."""
        return self.model.name, self.row["system"], self.engine

    @property
    def held_out(self) -> bool:
        """Whether the fit must not see this run."""
        digest = hashlib.sha256("|".join(self.triple).encode()).hexdigest()
        return int(digest, 16) % 3 == 0


def read_runs() -> tuple[list[Run], dict[str, int]]:
    """The published runs the roofline can describe, and how many others there are, by reason.

    Raises:
        InputError: the package is not installed; the message says how to install it.
    """
    with _sample().open(encoding="utf-8", newline="") as file:
        found = [_run(row) for row in csv.DictReader(file)]
    runs = [f for f in found if isinstance(f, Run)]
    return runs, dict(Counter(f for f in found if isinstance(f, str)).most_common())


def _sample() -> Path:
    package_version()
    return Path(str(resources.files("aiconfigurator_core") / "systems" / "silicon_sample.csv"))


def _run(row: dict[str, str]) -> Run | str:
    """The run of a row, or why it is not used."""
    clients = re.search(r"silicon_concurrency=(\d+)", row["silicon_data_source"])
    if reason := _beyond_the_roofline(row):
        return reason
    if clients is None:
        return "number of clients not given"
    catalog = load_catalog()
    gpu, size = catalog.gpu(SYSTEMS[row["system"]]), int(row["tp_size"])
    model = _as_run(catalog.model(MODELS[row["model_path"]]), row, gpu)
    if model.weight_bytes > FILLED * gpu.memory_gb * GB * size:
        return "weights larger than the memory of the GPUs named"
    return Run(
        model=model,
        gpu=gpu,
        engine=row["backend"],
        tensor_parallel=size,
        clients=int(clients[1]),
        input_tokens=int(row["isl"]),
        output_tokens=int(row["osl"]),
        ttft_s=float(row["silicon_ttft_ms"]) / 1e3,
        tpot_s=float(row["silicon_tpot_ms"]) / 1e3,
        row=row,
    )


def _beyond_the_roofline(row: dict[str, str]) -> str | None:
    """Why the roofline has no words for a row's layout, model or GPU; None where it has."""
    if row["mode"] != "agg":
        return "prefill and decode on separate replicas"
    if row["model_path"] not in MODELS:
        return f"a model the roofline does not describe: {row['model_path']}"
    if row["attention_dp_size"] not in ("", "1"):
        return "attention replicated over GPUs (data parallel)"
    if row["system"] not in SYSTEMS or int(row["tp_size"]) > 8:
        return "more than 8 GPUs, or a GPU not in the catalog"
    return None


def _as_run(model: ModelSpec, row: dict[str, str], gpu: GpuType) -> ModelSpec:
    """The model in the run's dtypes: TensorRT-LLM keeps 8-bit KV beside narrow weights, others 16.

    FP4 where the GPU has no units for it is a weight-only format, as int4 is.
    """
    weights = DTYPES[row["precision"]]
    if weights == "fp4" and gpu.fp4_tflop_per_s is None:
        weights = "int4"
    kv: Dtype = "fp8" if weights != "bf16" and row["backend"] == "trtllm" else "bf16"
    return model.model_copy(update={"weight_dtype": weights, "kv_dtype": kv})
