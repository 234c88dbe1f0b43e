"""Pairwise votes become outcomes: who won has 1, who lost 0, a tie halves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from orchestrator.routing_data import read_tables
from profiler.errors import InputError
from serve_apps.router.evaluation.importers import outcomes_of
from serve_apps.router.evaluation.votes import read_votes
from serve_apps.router.training import train


def lines(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_votes_of_an_arena(tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Hello."}]
    names = {"conversation_a": talk, "model_a": "big", "model_b": "small"}
    found = read_votes(
        lines(
            tmp_path / "votes.jsonl",
            {**names, "winner": "model_a"},
            {**names, "model_b": "other", "winner": "tie (bothbad)"},
        )
    )
    assert found.models == ("big", "other", "small")
    assert [p.text for p in found.prompts] == ["Hi?", "Hi?"]
    np.testing.assert_array_equal(found.score, [[1, np.nan, 0], [0.5, 0.5, np.nan]])


def test_winners_may_stand_in_three_columns_and_prompts_in_a_list(tmp_path: Path) -> None:
    path = tmp_path / "votes.csv"
    path.write_text(
        "model_a,model_b,prompt,winner_model_a,winner_model_b,winner_tie\n"
        'x,y,"[""first"",""second""]",0,1,0\n'
        "y,x,[not a list,0,0,1\n"
    )
    found = read_tables([path])
    assert [p.text for p in found.prompts] == ["first", "[not a list"]
    np.testing.assert_array_equal(found.score, [[0, 1], [0.5, 0.5]])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"model_a": "x", "model_b": "y", "winner": "x"}, "row 1, winner: found 'x'"),
        ({"model_a": "x", "model_b": "x", "winner": "tie"}, "against itself"),
        ({"model_a": "x", "winner": "tie"}, "expected model_a, model_b, winner"),
        (
            {"model_a": "x", "model_b": "y"}
            | dict.fromkeys(("winner_model_a", "winner_model_b", "winner_tie"), 1),
            "expected a 1 in one",
        ),
    ],
)
def test_what_is_no_vote_is_told(tmp_path: Path, row: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_votes(lines(tmp_path / "votes.jsonl", {"prompt": "q", **row}))


@pytest.mark.slow
def test_preferences_of_many_models_by_two_votes_a_prompt_are_learned() -> None:
    rng = np.random.default_rng(0)
    strength = np.linspace(-2, 2, 30)
    prompts = [f"question {i}" for i in range(600)]
    score = np.full((600, 30), np.nan)
    for row in score:
        a, b = rng.choice(30, 2, replace=False)
        won = float(rng.random() < 1 / (1 + np.exp(strength[b] - strength[a])))
        row[a], row[b] = won, 1 - won
    names = [f"m{i:02d}" for i in range(30)]
    outcomes = outcomes_of(prompts, [""] * 600, names, score, np.full(score.shape, np.nan))
    made = train(outcomes, features="hand", estimator="bradley_terry")
    told = made.estimate(outcomes.prompts).quality.mean(axis=0)
    assert np.corrcoef(told, strength)[0, 1] > 0.8
