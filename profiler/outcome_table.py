"""The outcome table: one row a question, a group of columns per model, as one Parquet file.

| column | meaning |
| --- | --- |
| `id`, `dataset`, `subject`, `prompt` | the question; `prompt` is what was sent, choices included |
| `s:M` | score in [0, 1]; NaN: not run, failed, or ungraded |
| `a:M` | the answer the grader found; null where it found none |
| `ot:M`, `it:M` | output and input tokens as the server counts them |
| `lat:M` | seconds from sending to the last byte, under the concurrency of the run |
| `c:M` | US dollars, where prices were given |
| `lp:M` | mean natural log-probability of the output tokens |
| `p_first:M`, `p_min:M` | probability of the first and of the least likely output token |
| `margin:M` | mean gap in probability between the likeliest two tokens at each step |

The last four are NaN where the server gives no token probabilities. The file's metadata, under
the key `orchestrator.outcomes`, is JSON: schema version, fingerprint of the question set, the
options of the run, and per model its URL, prices and notes.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiler import documents
from profiler.answer_log import Key, Record
from profiler.errors import InputError, UnknownNameError
from profiler.questions import Question

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = 1
_KEY = b"orchestrator.outcomes"
_NONE: Mapping[str, Any] = {}


def read_metadata(path: Path) -> dict[str, Any] | None:
    """What a table says of its run; None where there is no file.

    Raises:
        InputError: the file is no outcome table.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.exists():
        return None
    try:
        found = pq.read_schema(path).metadata or {}
        metadata: dict[str, Any] = json.loads(found[_KEY])
    except (pa.ArrowException, OSError, KeyError, ValueError):
        raise InputError(
            f"{path}: exists, and is no outcome table; --save elsewhere, or pass -y to replace it"
        ) from None
    return metadata


@dataclass(frozen=True)
class Score:
    """A model's mean score over some questions, and how far sampling them may have moved it."""

    mean: float
    standard_error: float
    questions: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} +- {1.96 * self.standard_error:.3f} ({self.questions} questions)"


def read_scores(path: Path, models: Sequence[str], dataset: str | None = None) -> dict[str, Score]:
    """Each model's mean score over the questions that all of them were graded on.

    Only the columns ``dataset`` and ``s:M`` are read, so a table made elsewhere will do.

    The standard error is that of a mean of independent draws, s / sqrt(n): it says how much other
    questions of the same kind would have moved the mean, and nothing of questions of other kinds.

    Raises:
        InputError: no such table, model or dataset, or fewer than two questions in common.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError):
        what = "is no Parquet file" if path.exists() else "no such file"
        raise InputError(f"{path}: {what}; make one: orchestrator profile quality") from None
    known = [c.removeprefix("s:") for c in table.column_names if c.startswith("s:")]
    if "dataset" not in table.column_names or not known:
        raise InputError(f"{path}: expected the columns dataset and s:MODEL of an outcome table")
    if missing := next((m for m in models if m not in known), None):
        raise InputError(f"{path}: {UnknownNameError('model', missing, known)}")
    datasets = np.array(table.column("dataset").to_pylist())
    if dataset is not None and dataset not in datasets:
        raise InputError(f"{path}: {UnknownNameError('dataset', dataset, set(datasets.tolist()))}")
    scores = np.array([table.column(f"s:{m}").to_numpy() for m in models], dtype=float)
    common = ~np.isnan(scores).any(axis=0)
    common &= True if dataset is None else datasets == dataset
    count = int(common.sum())
    if count < 2:
        of = "" if dataset is None else f" of {dataset}"
        raise InputError(f"{path}: {count} questions{of} graded for all of {', '.join(models)}")
    errors = scores[:, common].std(axis=1, ddof=1) / math.sqrt(count)
    means = scores[:, common].mean(axis=1)
    return {
        m: Score(float(mean), float(error), count)
        for m, mean, error in zip(models, means, errors, strict=True)
    }


def write_table(
    path: Path,
    questions: Sequence[Question],
    models: Sequence[str],
    records: Mapping[Key, Record],
    metadata: Mapping[str, Any],
) -> None:
    """Make the table of these records and put it in place in one step.

    Raises:
        InputError: the place cannot be written; what was there stays.
    """
    import pyarrow.parquet as pq

    table = build_table(questions, models, records, metadata)
    content = io.BytesIO()
    pq.write_table(table, content, compression="zstd")
    documents.write_bytes(path, content.getvalue())


def build_table(
    questions: Sequence[Question],
    models: Sequence[str],
    records: Mapping[Key, Record],
    metadata: Mapping[str, Any],
) -> pa.Table:
    """The table in memory; ``metadata`` holds per model, under ``models``, its prices."""
    import pyarrow as pa

    columns: dict[str, pa.Array] = {
        "id": pa.array([q.id for q in questions], pa.string()),
        "dataset": pa.array([q.dataset for q in questions], pa.string()),
        "subject": pa.array([q.subject for q in questions], pa.string()),
        "prompt": pa.array([q.text for q in questions], pa.string()),
    }
    for model in models:
        found = [records.get((q.id, model)) for q in questions]
        columns |= _model_columns(model, found, metadata.get("models", _NONE).get(model, _NONE))
    kept = {_KEY: json.dumps({"version": VERSION, **metadata}).encode()}
    return pa.table(columns).replace_schema_metadata(kept)


def _model_columns(
    model: str, found: Sequence[Record | None], about: Mapping[str, Any]
) -> dict[str, pa.Array]:
    import pyarrow as pa

    answered = [r if r is not None and r.text is not None else None for r in found]

    def column(kind: Any, value: Any) -> pa.Array:
        return pa.array([None if r is None else value(r) for r in answered], kind)

    def figure(value: Any) -> pa.Array:
        known = (None if r is None else value(r) for r in answered)
        return pa.array([math.nan if v is None else v for v in known], pa.float32())

    columns = {
        f"s:{model}": figure(lambda r: r.score),
        f"ot:{model}": column(pa.int32(), lambda r: r.output_tokens),
        f"it:{model}": column(pa.int32(), lambda r: r.input_tokens),
        f"lat:{model}": figure(lambda r: r.latency_s),
        f"a:{model}": column(pa.string(), lambda r: r.answer),
        f"lp:{model}": figure(lambda r: mean(r.logprobs)),
        f"p_first:{model}": figure(lambda r: math.exp(r.logprobs[0]) if r.logprobs else None),
        f"p_min:{model}": figure(lambda r: math.exp(min(r.logprobs)) if r.logprobs else None),
        f"margin:{model}": figure(lambda r: mean(r.margins)),
    }
    if about.get("usd_per_input_mtok") is not None:
        columns[f"c:{model}"] = column(pa.float64(), lambda r: usd(r, about))
    return columns


def usd(found: Record, about: Mapping[str, Any]) -> float | None:
    """What an answer cost; None where tokens or prices are unknown."""
    given, made = about.get("usd_per_input_mtok"), about.get("usd_per_output_mtok")
    if given is None or made is None or found.input_tokens is None or found.output_tokens is None:
        return None
    return (found.input_tokens * float(given) + found.output_tokens * float(made)) / 1e6


def mean(values: Sequence[float]) -> float | None:
    """The mean of the figures that are known; None without any."""
    known = [v for v in values if not math.isnan(v)]
    return sum(known) / len(known) if known else None
