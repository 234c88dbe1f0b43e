"""Small outcome tables in which the prompt tells who is right, as files on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

SIZES = {"small-1b": 1.0, "mid-8b": 8.0, "large-70b": 70.0}
"""Skill grows with the size that the name gives."""


def write_outcomes(
    path: Path,
    models: Sequence[str] = ("small-1b", "large-70b"),
    count: int = 240,
    *,
    lengths: bool = True,
    usd: bool = False,
    start: int = 0,
) -> Path:
    """Sums of one digit, that all can do, and proofs with formulas, that skill is needed for."""
    rng = np.random.default_rng(start)
    hard = rng.random(count) < 0.5
    columns: dict[str, object] = {
        "id": [str(start + i) for i in range(count)],
        "dataset": ["proof" if h else "sum" for h in hard],
        "subject": [f"s{i % 6}" for i in range(count)],
        "prompt": [
            f"Prove that x_{start + i}^{{2}} = \\frac{{y}}{{z}} implies lemma {i}, and why not less"
            if h
            else f"What is {i % 9} + {start + i}?"
            for i, h in enumerate(hard)
        ],
    }
    for model in models:
        size = float(model.rpartition("-")[2].removesuffix("b"))
        right = rng.random(count) < np.where(hard, 0.2 + 0.17 * np.log10(size) * 2, 0.97)
        columns[f"s:{model}"] = right.astype(float)
        if lengths:
            columns[f"ot:{model}"] = np.where(hard, 80, 10) + rng.integers(10, size=count)
        if usd:
            columns[f"c:{model}"] = np.full(count, size * 1e-5)
    pq.write_table(pa.table(columns), path)
    return path


def write_routerbench(path: Path, count: int = 240) -> Path:
    """The same questions in RouterBench's columns, as CSV."""
    table = pq.read_table(write_outcomes(path.with_suffix(".tmp"), count=count, usd=True))
    columns = {"prompt": table["prompt"], "eval_name": table["dataset"]}
    for name in table.column_names:
        kind, _, model = name.partition(":")
        if kind in ("s", "c"):
            columns[model + ("|total_cost" if kind == "c" else "")] = table[name]
    pa.csv.write_csv(pa.table(columns), path)
    return path
