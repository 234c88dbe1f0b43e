"""Outcomes: how well each model answered each prompt; what routers are trained and judged on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from profiler.errors import InputError
from profiler.parquet import require_pyarrow
from serve_apps.router.prompts import Prompt

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
SIGNALS = ("lp", "p_first", "p_min", "margin")
"""Per-model figures of an answer that a cascade may look at, see `profiler.outcome_table`."""


@dataclass(frozen=True)
class Outcomes:
    """Prompts and what each model made of them; every matrix is ``[prompts, models]``.

    ``score`` lies in [0, 1]; NaN where a model was not run. ``output_tokens``, ``input_tokens``
    and ``usd`` are NaN where unknown. ``answer`` holds the extracted answers, "" where none was
    found. ``subject`` falls back to the data set.
    """

    prompts: tuple[Prompt, ...]
    dataset: tuple[str, ...]
    subject: tuple[str, ...]
    models: tuple[str, ...]
    score: Floats
    output_tokens: Floats
    input_tokens: Floats
    usd: Floats
    answer: NDArray[np.str_] | None = None
    signals: Mapping[str, Floats] = field(default_factory=dict)

    def rows(self, rows: Rows | NDArray[np.bool_]) -> Outcomes:
        """The prompts at these positions."""
        at = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        return Outcomes(
            prompts=tuple(self.prompts[i] for i in at),
            dataset=tuple(self.dataset[i] for i in at),
            subject=tuple(self.subject[i] for i in at),
            models=self.models,
            score=self.score[at],
            output_tokens=self.output_tokens[at],
            input_tokens=self.input_tokens[at],
            usd=self.usd[at],
            answer=None if self.answer is None else self.answer[at],
            signals={name: values[at] for name, values in self.signals.items()},
        )

    def only(self, models: Sequence[str]) -> Outcomes:
        """These models, in this order.

        Raises:
            InputError: a model is not in the table.
        """
        unknown = [m for m in models if m not in self.models]
        if unknown:
            raise InputError(
                f"found no outcomes of {unknown[0]!r}, expected one of {', '.join(self.models)}"
            )
        at = [self.models.index(m) for m in models]
        return Outcomes(
            prompts=self.prompts,
            dataset=self.dataset,
            subject=self.subject,
            models=tuple(models),
            score=self.score[:, at],
            output_tokens=self.output_tokens[:, at],
            input_tokens=self.input_tokens[:, at],
            usd=self.usd[:, at],
            answer=None if self.answer is None else self.answer[:, at],
            signals={name: values[:, at] for name, values in self.signals.items()},
        )


def read_outcomes(path: Path, *, scores: str = "s") -> Outcomes:
    """Read a Parquet outcome table (`profiler.outcome_table`); ``scores`` names the score columns.

    Raises:
        InputError: the file is missing, no Parquet, or has no prompt or score columns; or
            pyarrow is not installed.
    """
    require_pyarrow()
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.exists():
        raise InputError(f"{path}: no such file; expected an outcome table (Parquet)")
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: found no readable Parquet file: {error}") from None
    prefix = f"{scores}:"
    models = tuple(c.removeprefix(prefix) for c in table.column_names if c.startswith(prefix))
    if "prompt" not in table.column_names or not models:
        raise InputError(
            f"{path}: found columns {', '.join(table.column_names[:6])}, expected 'prompt' and "
            f"one '{prefix}MODEL' per model"
        )

    def matrix(kind: str) -> Floats:
        missing = np.full(table.num_rows, np.nan)
        columns = [
            _floats(table[name]) if (name := f"{kind}:{m}") in table.column_names else missing
            for m in models
        ]
        return np.stack(columns, axis=1)

    def texts(name: str) -> tuple[str, ...]:
        if name not in table.column_names:
            return ("",) * len(table)
        values: list[object] = table[name].to_pylist()
        return tuple("" if v is None else str(v) for v in values)

    dataset = texts("dataset")
    answers = any(f"a:{m}" in table.column_names for m in models)
    return Outcomes(
        prompts=tuple(Prompt(text) for text in texts("prompt")),
        dataset=dataset,
        subject=tuple(s or d for s, d in zip(texts("subject"), dataset, strict=True)),
        models=models,
        score=matrix(scores),
        output_tokens=matrix("ot"),
        input_tokens=matrix("it"),
        usd=matrix("c"),
        answer=np.stack([np.array(texts(f"a:{m}")) for m in models], axis=1) if answers else None,
        signals={
            kind: matrix(kind)
            for kind in SIGNALS
            if any(f"{kind}:{m}" in table.column_names for m in models)
        },
    )


def _floats(column: object) -> Floats:
    import pyarrow as pa

    assert isinstance(column, pa.ChunkedArray)
    return np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)
