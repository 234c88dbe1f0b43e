"""Outcomes from the files of RouterBench and RouteLLM: CSV, Parquet or JSON Lines, never pickle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from profiler.errors import InputError
from profiler.parquet import require_pyarrow
from serve_apps.router.outcomes import Floats, Outcomes
from serve_apps.router.prompts import Prompt

_COST = "|total_cost"
_ANSWER = "|model_response"
_PICKLES = (".pkl", ".pickle")


def read_routerbench(path: Path) -> Outcomes:
    """RouterBench's wide table: one score column ``MODEL`` and one ``MODEL|total_cost`` per model.

    Beside them ``prompt`` (a text, or a list of texts written out) and ``eval_name``. Costs are
    US dollars. Answers in ``MODEL|model_response`` are not read: they are whole, not extracted.

    Raises:
        InputError: the file is missing, of another kind, or has no such columns.
    """
    table = columns_of(path)
    models = [c.removesuffix(_COST) for c in table if c.endswith(_COST)]
    models = [m for m in models if m in table]
    if "prompt" not in table or not models:
        raise InputError(
            f"{path}: found columns {_shown(table)}; expected 'prompt', and per model 'MODEL' and "
            "'MODEL|total_cost'"
        )
    names = [str(v or "") for v in table.get("eval_name", [""] * len(table["prompt"]))]
    return outcomes_of(
        prompts=[_unlisted(v) for v in table["prompt"]],
        dataset=names,
        models=models,
        score=np.stack([_floats(path, m, table[m]) for m in models], axis=1),
        usd=np.stack([_floats(path, m + _COST, table[m + _COST]) for m in models], axis=1),
    )


def read_routellm(path: Path) -> Outcomes:
    """RouteLLM's tables: ``prompt``, then one column of true and false per model.

    A folder is read whole; a file's name, less ``mmlu_``, is its subject.

    Raises:
        InputError: nothing there to read, other columns, or files about different models.
    """
    files = sorted(path.glob("*.csv")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path}: found no .csv file; expected RouteLLM's responses")
    parts = [(f, columns_of(f)) for f in files]
    models = _models_in(files[0], parts[0][1])
    prompts: list[str] = []
    subjects: list[str] = []
    scores: list[Floats] = []
    for file, table in parts:
        if set(_models_in(file, table)) != set(models):
            raise InputError(f"{file}: found other models than in {files[0]}: {_shown(table)}")
        prompts += [str(v) for v in table["prompt"]]
        subjects += [file.stem.removeprefix("mmlu_")] * len(table["prompt"])
        scores.append(np.stack([_floats(file, m, table[m]) for m in models], axis=1))
    score = np.concatenate(scores)
    return outcomes_of(prompts, subjects, models, score, np.full(score.shape, np.nan))


def _models_in(file: Path, table: Mapping[str, Sequence[Any]]) -> list[str]:
    yes_no = {True, False, "True", "False", "true", "false", None}
    models = [c for c, v in table.items() if c != "prompt" and v and set(map(_plain, v)) <= yes_no]
    if "prompt" not in table or not models:
        raise InputError(
            f"{file}: found columns {_shown(table)}; expected 'prompt' and one column of true and "
            "false per model"
        )
    return models


def _plain(value: Any) -> Any:
    return value if isinstance(value, (bool, str)) or value is None else str(value)


def columns_of(path: Path) -> dict[str, list[Any]]:
    """The columns of a CSV, Parquet or JSON Lines file.

    Raises:
        InputError: it is missing, of another kind, or cannot be read.
    """
    require_pyarrow()
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.json
    import pyarrow.parquet

    kind = path.suffix.lower()
    if kind in _PICKLES:
        raise InputError(
            f"{path}: found a pickle, which can run any code when read; convert it where you trust "
            f"it: pandas.read_pickle(...).to_parquet('{path.stem}.parquet')"
        )
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected .csv, .parquet or .jsonl")
    try:
        if kind == ".parquet":
            table = pa.parquet.read_table(path)
        elif kind in {".jsonl", ".ndjson"}:
            table = pa.json.read_json(path)
        elif kind == ".csv":
            parse = pa.csv.ParseOptions(newlines_in_values=True)
            table = pa.csv.read_csv(path, parse_options=parse)
        else:
            raise InputError(
                f"{path}: found {kind or 'no ending'}; expected .csv, .parquet, .jsonl"
            )
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: found no readable {kind} file: {error}") from None
    columns: dict[str, list[Any]] = table.to_pydict()
    return columns


def outcomes_of(
    prompts: Sequence[str],
    dataset: Sequence[str],
    models: Sequence[str],
    score: Floats,
    usd: Floats,
) -> Outcomes:
    """Outcomes with no more than scores and costs, ``[prompts, models]``."""
    unknown = np.full(score.shape, np.nan)
    return Outcomes(
        prompts=tuple(Prompt(p) for p in prompts),
        dataset=tuple(dataset),
        subject=tuple(dataset),
        models=tuple(models),
        score=score,
        output_tokens=unknown,
        input_tokens=unknown,
        usd=usd,
    )


def _floats(path: Path, column: str, values: Sequence[Any]) -> Floats:
    words = {"true": 1.0, "false": 0.0}
    found = []
    for row, value in enumerate(values):
        try:
            text = str(value).lower()
            found.append(
                words[text] if text in words else np.nan if value is None else float(value)
            )
        except ValueError:
            raise InputError(
                f"{path}: row {row + 1}, {column}: found {value!r}, expected a number"
            ) from None
    return np.array(found, dtype=np.float64)


def _unlisted(value: Any) -> str:
    """RouterBench writes a prompt as the text of a Python list of turns; its last turn."""
    import ast

    if isinstance(value, list):
        return str(value[-1]) if value else ""
    text = str(value)
    if text.startswith("[") and text.endswith("]"):
        try:
            turns = ast.literal_eval(text.replace("\n", "\\n"))
        except (ValueError, SyntaxError):
            return text
        if isinstance(turns, list) and turns and all(isinstance(t, str) for t in turns):
            return str(turns[-1])
    return text


def _shown(table: Mapping[str, Any]) -> str:
    return ", ".join(list(table)[:6])
