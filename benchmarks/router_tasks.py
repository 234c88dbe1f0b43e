"""The router benchmark's data: tables, pools and splits, each a pure function of a seed."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serve_apps.router.outcomes import Outcomes, read_outcomes

Floats = NDArray[np.float64]
DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "outcomes"

GPT4, MIXTRAL = "gpt-4-1106-preview", "mistralai/Mixtral-8x7B-Instruct-v0.1"
LLAMA_8B = "Meta-Llama-3.1-8B-Instruct"
LLAMA_70B = "Meta-Llama-3.1-70B-Instruct"
LLAMA_405B = "Llama-3.1-405B-Instruct@sambanova"
PROBE = "gemma-2-9b-it"

ZEROEVAL_POOL = (
    "gemma-2-2b-it", "Phi-3.5-mini-instruct", "Qwen2-7B-Instruct", LLAMA_8B, "gemma-2-9b-it",
    "gemma-2-27b-it", LLAMA_70B, "Qwen2-72B-Instruct", LLAMA_405B,
)  # fmt: skip
"""Open weights of one summer that answered all three tasks, by size."""
ZEROEVAL_POOL_MISTRAL = (*(m for m in ZEROEVAL_POOL if m[:3] != "Phi"), "Mistral-Large-2")
"""The same with a model as good as the largest, and three times smaller."""
ZEROEVAL_POOL_QWEN = (
    "gemma-2-2b-it", "Qwen2.5-3B-Instruct", "Qwen2.5-7B-Instruct", LLAMA_8B, "gemma-2-27b-it",
    "Qwen2.5-32B-Instruct", LLAMA_70B, "Qwen2.5-72B-Instruct", LLAMA_405B,
)  # fmt: skip
"""With Qwen2.5, which was not run on GSM8K: on the other two tasks."""
MMLU_PRO_POOL = (
    "Phi-3-mini-4k-instruct", "Mistral-7B-Instruct-v0.2", "mathstral-7B",
    "Meta-Llama-3_1-8B-Instruct", "Mixtral-8x7B-Instruct-v0.1", "Qwen1.5-72B-Chat",
    "Meta-Llama-3_1-70B-Instruct",
)  # fmt: skip
"""Open weights, instruction-tuned, run on every prompt."""


@dataclass(frozen=True)
class Tables:
    """The outcome tables, and active parameters (10^9) by model of the last two.

    ``cache_dir`` keeps embeddings of prompts between splits; "" for none.
    """

    mmlu: Outcomes
    gsm8k: Outcomes
    zeroeval: Outcomes
    mmlu_pro: Outcomes
    params_b: dict[str, float]
    cache_dir: str = ""


def load(data: Path, cache_dir: str = "") -> Tables:
    """Read all; GSM8K by the grades given again, since the published ones are faulty."""
    routellm = read_outcomes(data / "routellm.parquet")
    regraded = read_outcomes(data / "routellm.parquet", scores="regrade").only(routellm.models)
    dataset = np.array(routellm.dataset)
    with (data / "models.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if r["active_params_b"]]
    return Tables(
        mmlu=routellm.rows(dataset == "mmlu"),
        gsm8k=regraded.rows(dataset == "gsm8k"),
        zeroeval=read_outcomes(data / "zeroeval.parquet"),
        mmlu_pro=read_outcomes(data / "mmlu_pro.parquet"),
        params_b={r["model"]: float(r["active_params_b"]) for r in rows},
        cache_dir=cache_dir,
    )


def places(outcomes: Outcomes, seed: int) -> Floats:
    """A number in [0, 1) per prompt, by hash of its text: equal prompts share theirs."""
    return np.array([_hashed(p.text, seed) for p in outcomes.prompts])


def split(outcomes: Outcomes, share: float, seed: int) -> tuple[Outcomes, Outcomes]:
    """Training and test prompts."""
    train = places(outcomes, seed) < share
    return outcomes.rows(train), outcomes.rows(~train)


def split_count(outcomes: Outcomes, count: int, seed: int) -> tuple[Outcomes, Outcomes]:
    """The first ``count`` prompts by hash (all copies of the last one's text too), and the rest."""
    place = places(outcomes, seed)
    train = place <= np.sort(place)[min(count, place.size) - 1]
    return outcomes.rows(train), outcomes.rows(~train)


def split_subjects(outcomes: Outcomes, seed: int) -> tuple[Outcomes, Outcomes]:
    """Half of the subjects to train on, the others to test on; no prompt is in both."""
    names = sorted(set(outcomes.subject), key=lambda s: _hashed(s, seed))
    chosen = set(names[: len(names) // 2])
    train = np.array([s in chosen for s in outcomes.subject])
    seen = {p.text for p, t in zip(outcomes.prompts, train, strict=True) if t}
    test = ~train & np.array([p.text not in seen for p in outcomes.prompts])
    return outcomes.rows(train), outcomes.rows(test)


def without(outcomes: Outcomes, others: Outcomes) -> Outcomes:
    """The prompts that are not among the others'."""
    seen = {p.text for p in others.prompts}
    return outcomes.rows(np.array([p.text not in seen for p in outcomes.prompts]))


def complete(outcomes: Outcomes, models: tuple[str, ...]) -> Outcomes:
    """The prompts that all these models answered, with a length known."""
    pool = outcomes.only(models)
    known = np.isfinite(pool.score) & np.isfinite(pool.output_tokens)
    return outcomes.rows(np.flatnonzero(known.all(axis=1)))


def compute(outcomes: Outcomes, models: tuple[str, ...], params_b: dict[str, float]) -> Floats:
    """Cost of each answer: active parameters (10^9) times output tokens; [prompts, models]."""
    tokens = outcomes.only(models).output_tokens
    return np.asarray(tokens * np.array([params_b[m] for m in models]))


def _hashed(text: str, seed: int) -> float:
    digest = hashlib.sha256(f"{seed}\0{text}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:7], "big") / 2**56
