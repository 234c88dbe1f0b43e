"""RouterBench's and RouteLLM's files become outcomes; what cannot is refused with the mend."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from profiler.errors import InputError
from serve_apps.router.evaluation.importers import read_routellm, read_routerbench

BENCH = """sample_id,prompt,eval_name,small,large,small|total_cost,large|total_cost,oracle
a,"['What is 2+2?']",gsm8k,0.0,1.0,0.001,0.02,large
b,"['Be brief.', 'Name a
colour']",mmlu,0.25,1.0,0.001,0.03,large
c,plain,mmlu,,1.0,0.001,0.03,large
"""


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_routerbench(tmp_path: Path) -> None:
    found = read_routerbench(written(tmp_path / "bench.csv", BENCH))
    assert found.models == ("small", "large")
    assert [p.text for p in found.prompts] == ["What is 2+2?", "Name a\ncolour", "plain"]
    assert found.dataset == ("gsm8k", "mmlu", "mmlu")
    assert found.score[:2].tolist() == [[0, 1], [0.25, 1]]
    assert np.isnan(found.score[2, 0])
    assert found.usd[1].tolist() == [0.001, 0.03]


def test_routerbench_as_json_lines_and_parquet(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = '{"prompt": "q", "m": 1.0, "m|total_cost": 0.5}\n'
    lines = read_routerbench(written(tmp_path / "bench.jsonl", row))
    table = pa.table({"prompt": [["a", "q"]], "m": [1.0], "m|total_cost": [0.5]})
    pq.write_table(table, tmp_path / "bench.parquet")
    parquet = read_routerbench(tmp_path / "bench.parquet")
    for found in (lines, parquet):
        assert (found.prompts[0].text, found.score[0, 0], found.usd[0, 0]) == ("q", 1.0, 0.5)


def test_routellm_reads_a_folder_of_subjects(tmp_path: Path) -> None:
    for subject in ("anatomy", "virology"):
        written(tmp_path / f"mmlu_{subject}.csv", f"prompt,big,little\n{subject}?,True,False\n")
    found = read_routellm(tmp_path)
    assert found.subject == ("anatomy", "virology")
    assert found.models == ("big", "little")
    assert found.score.tolist() == [[1, 0], [1, 0]]


def test_routellm_takes_only_columns_of_true_and_false(tmp_path: Path) -> None:
    text = "prompt,big,big_response\nq,False,some text\n"
    assert read_routellm(written(tmp_path / "gsm8k.csv", text)).models == ("big",)


def test_files_about_different_models_are_not_joined(tmp_path: Path) -> None:
    written(tmp_path / "a.csv", "prompt,big\nq,True\n")
    written(tmp_path / "b.csv", "prompt,other\nq,True\n")
    with pytest.raises(InputError, match=r"b\.csv: found other models"):
        read_routellm(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.pkl", "", "can run any code"),
        ("x.txt", "", r"found \.txt"),
        ("x.csv", "question,a\nq,1\n", "expected 'prompt'"),
        ("x.csv", 'prompt,"m","m|total_cost"\nq,good,1\n', "row 1, m: found 'good'"),
        ("x.parquet", "no", "no readable"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_routerbench(written(tmp_path / name, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_routellm(tmp_path / "none.csv")
    with pytest.raises(InputError, match=r"no \.csv file"):
        read_routellm(tmp_path)
