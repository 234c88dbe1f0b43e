"""Outcomes from pairwise preferences: files in which people, or a judge, say who answered better.

A vote scores both answers of its prompt: 1 for the better, 0 for the other, 0.5 each for a tie.
Estimators that are trained on preferences (`bradley_terry`, `matrix_factorisation`) use nothing
else; what others then estimate is the share of votes a model wins.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from profiler.errors import InputError
from serve_apps.router.evaluation.importers import columns_of, outcomes_of
from serve_apps.router.outcomes import Outcomes

PAIR = ("model_a", "model_b")
FLAGS = ("winner_model_a", "winner_model_b", "winner_tie")
TEXTS = ("prompt", "conversation_a", "conversation", "question")
"""Where a prompt may stand, the first that is there: a text, or messages, or these as JSON."""


def holds_votes(table: Mapping[str, Sequence[Any]]) -> bool:
    """Whether these columns are those of votes."""
    return set(PAIR) <= table.keys() and ("winner" in table or set(FLAGS) <= table.keys())


def read_votes(path: Path) -> Outcomes:
    """Votes as Chatbot Arena publishes them, as CSV, Parquet or JSON Lines.

    Columns: ``model_a``, ``model_b``; ``winner`` (model_a, model_b, or a word with "tie" in it) or
    ``winner_model_a``, ``winner_model_b``, ``winner_tie`` (0 or 1); the prompt in one of `TEXTS`,
    of which the first message of the user counts. Each vote is a row.

    Raises:
        InputError: the file is missing, of another kind, or a row is none of these.
    """
    table = columns_of(path)
    where = next((c for c in TEXTS if c in table), None)
    if not holds_votes(table) or where is None:
        raise InputError(
            f"{path}: found columns {', '.join(list(table)[:8])}; expected model_a, model_b, "
            f"winner (or {', '.join(FLAGS)}), and the prompt in one of {', '.join(TEXTS)}"
        )
    a, b = ([str(v) for v in table[name]] for name in PAIR)
    models = sorted({*a, *b})
    at = {model: i for i, model in enumerate(models)}
    score = np.full((len(a), len(models)), np.nan)
    for row, (one, other) in enumerate(zip(a, b, strict=True)):
        if one == other:
            raise InputError(f"{path}: row {row + 1}: found {one!r} against itself")
        share = _share_of_a(path, table, row)
        score[row, at[one]], score[row, at[other]] = share, 1 - share
    prompts = [_first_message(value) for value in table[where]]
    return outcomes_of(prompts, [""] * len(a), models, score, np.full(score.shape, np.nan))


def _share_of_a(path: Path, table: Mapping[str, Sequence[Any]], row: int) -> float:
    if "winner" in table:
        told = str(table["winner"][row])
        if told in PAIR:
            return float(told == PAIR[0])
        if "tie" in told:
            return 0.5
        raise InputError(
            f"{path}: row {row + 1}, winner: found {told!r}, expected model_a, model_b or tie"
        )
    flags = [str(table[name][row]).lower() in ("1", "1.0", "true") for name in FLAGS]
    if sum(flags) != 1:
        raise InputError(f"{path}: row {row + 1}: expected a 1 in one of {', '.join(FLAGS)}")
    return (1.0, 0.0, 0.5)[flags.index(True)]


def _first_message(value: Any) -> str:
    """The text itself, or the first message of a list that the user wrote."""
    if isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            return str(value)
    if not isinstance(value, list):
        return str(value or "")
    for message in value:
        if isinstance(message, str):
            return message
        if isinstance(message, dict) and message.get("role", "user") == "user":
            return str(message.get("content") or "")
    return ""
