"""Outcome tables of several kinds and files as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from profiler.errors import InputError, UnknownNameError
from profiler.parquet import require_pyarrow
from serve_apps.router.evaluation.importers import columns_of, read_routellm, read_routerbench
from serve_apps.router.evaluation.votes import holds_votes, read_votes
from serve_apps.router.outcomes import Floats, Outcomes, read_outcomes


def read_tables(
    paths: Sequence[Path],
    models: Sequence[str] = (),
    *,
    scores: str = "s",
    datasets: Sequence[str] = (),
) -> Outcomes:
    """Read and join outcome tables; ``models`` and ``datasets`` restrict them, empty: all.

    Raises:
        InputError: a file that cannot be read or used, an unknown model or data set, or none left.
    """
    if not paths:
        raise InputError("no outcome table given; `orchestrator profile quality` makes one")
    joined = merge([read_table(path, scores=scores) for path in paths])
    if datasets:
        known = set(joined.dataset)
        for name in datasets:
            if name not in known:
                raise UnknownNameError("dataset", name, known, mend=f"(in {_names(paths)})")
        joined = joined.rows(np.array([d in datasets for d in joined.dataset]))
    if models:
        for name in models:
            if name not in joined.models:
                raise UnknownNameError("model", name, joined.models, mend=f"(in {_names(paths)})")
        joined = joined.only(list(dict.fromkeys(models)))
    kept = joined.rows(np.flatnonzero(np.isfinite(joined.score).any(axis=1)))
    if not kept.prompts:
        raise InputError(f"{_names(paths)}: found no score of {', '.join(joined.models)}")
    return kept


def read_table(path: Path, *, scores: str = "s") -> Outcomes:
    """One file: our own table, RouterBench's, RouteLLM's (a file or a folder of them), or votes.

    Raises:
        InputError: it is missing, or of another kind.
    """
    require_pyarrow()
    if path.is_dir() or path.suffix.lower() != ".parquet":
        return _imported(path)
    columns = _columns(path)
    if any(c.startswith(f"{scores}:") for c in columns):
        return _in_range(path, read_outcomes(path, scores=scores))
    if scores == "s" and not any(c.startswith("s:") for c in columns):
        return _imported(path)
    kinds = sorted({c.partition(":")[0] for c in columns if ":" in c})
    raise InputError(
        f"{path}: found no column '{scores}:MODEL'; columns per model here: {', '.join(kinds)}"
    )


def merge(tables: Sequence[Outcomes]) -> Outcomes:
    """All prompts of all tables under all of their models; what a table lacks is NaN.

    Where a later table has other models' outcomes of a prompt, they join its row.
    """
    if len(tables) == 1:
        return tables[0]
    models = tuple(dict.fromkeys(m for t in tables for m in t.models))
    wide = [_widened(t, models) for t in tables]
    signals = {name for t in wide for name in t.signals}
    joined = Outcomes(
        prompts=tuple(p for t in wide for p in t.prompts),
        dataset=tuple(d for t in wide for d in t.dataset),
        subject=tuple(s for t in wide for s in t.subject),
        models=models,
        score=np.concatenate([t.score for t in wide]),
        output_tokens=np.concatenate([t.output_tokens for t in wide]),
        input_tokens=np.concatenate([t.input_tokens for t in wide]),
        usd=np.concatenate([t.usd for t in wide]),
        signals={
            name: np.concatenate([t.signals.get(name, np.full_like(t.score, np.nan)) for t in wide])
            for name in signals
        },
    )
    return _rows_joined(joined, len(tables[0].prompts))


def _rows_joined(joined: Outcomes, first: int) -> Outcomes:
    """Rows after the ``first`` folded into the earlier row of their prompt, where it has room."""
    place: dict[str, int] = {}
    kept = np.ones(len(joined.prompts), dtype=bool)
    parts = (joined.score, joined.output_tokens, joined.input_tokens, joined.usd)
    matrices = (*parts, *joined.signals.values())
    for row, prompt in enumerate(joined.prompts):
        home = place.setdefault(prompt.text, row)
        new = np.isfinite(joined.score[row])
        if home == row or row < first or (new & np.isfinite(joined.score[home])).any():
            continue
        kept[row] = False
        for values in matrices:
            values[home, new] = values[row, new]
    return joined.rows(kept)


def _widened(table: Outcomes, models: Sequence[str]) -> Outcomes:
    at = [models.index(m) for m in table.models]

    def wide(values: Floats) -> Floats:
        new = np.full((len(values), len(models)), np.nan)
        new[:, at] = values
        return new

    return replace(
        table,
        models=tuple(models),
        score=wide(table.score),
        output_tokens=wide(table.output_tokens),
        input_tokens=wide(table.input_tokens),
        usd=wide(table.usd),
        answer=None,
        signals={name: wide(values) for name, values in table.signals.items()},
    )


def _imported(path: Path) -> Outcomes:
    if not path.exists():
        raise InputError(f"{path}: no such file; expected an outcome table")
    if path.is_dir():
        return read_routellm(path)
    if holds_votes(columns_of(path)):
        return read_votes(path)
    try:
        return _in_range(path, read_routerbench(path))
    except InputError as first:
        try:
            return read_routellm(path)
        except InputError:
            raise InputError(
                f"{first}; or, per model, a column 's:MODEL' (ours) or one of true and false "
                "(RouteLLM's); or votes: 'prompt', 'model_a', 'model_b', 'winner'"
            ) from None


def _columns(path: Path) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.exists():
        raise InputError(f"{path}: no such file; expected an outcome table (Parquet)")
    try:
        return list(pq.read_schema(path).names)
    except (pa.ArrowException, OSError):
        raise InputError(f"{path}: found no readable Parquet file") from None


def _in_range(path: Path, found: Outcomes) -> Outcomes:
    with np.errstate(invalid="ignore"):
        wrong = np.argwhere((found.score < 0) | (found.score > 1))
    if wrong.size:
        row, model = wrong[0]
        raise InputError(
            f"{path}: row {row + 1}, score of {found.models[model]}: found "
            f"{found.score[row, model]:g}, expected it in [0, 1]"
        )
    return found


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(str(p) for p in paths)
