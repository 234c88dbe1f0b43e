"""Scores are of the questions that every model was graded on, and say how sure they are."""

import math
from pathlib import Path

import pytest

from profiler.errors import InputError
from profiler.outcome_table import read_scores

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
NAN = math.nan


def table(tmp_path: Path, **columns):
    path = tmp_path / "quality.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def scored(tmp_path):
    return table(
        tmp_path,
        dataset=["x", "x", "x", "y", "y"],
        **{"s:one": [1.0, 0.0, NAN, 1.0, 1.0], "s:two": [0.5, 0.5, 0.9, 0.0, 1.0]},
    )


def test_the_mean_is_over_common_questions_with_its_standard_error(tmp_path):
    found = read_scores(scored(tmp_path), ["one", "two"])
    assert {m: s.mean for m, s in found.items()} == {"one": 0.75, "two": 0.5}
    assert {s.questions for s in found.values()} == {4}
    assert found["one"].standard_error == pytest.approx(0.5 / 2)
    alone = read_scores(scored(tmp_path), ["two"])["two"]
    assert (alone.mean, alone.questions) == (pytest.approx(0.58), 5)


def test_a_dataset_has_scores_of_its_own(tmp_path):
    found = read_scores(scored(tmp_path), ["one", "two"], "y")
    assert {m: s.mean for m, s in found.items()} == {"one": 1.0, "two": 0.5}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"dataset": ["x"], "s:one": [1.0]}, "1 questions graded for all of one"),
        ({"dataset": ["x"], "s:two": [1.0]}, "unknown model 'one'"),
        ({"dataset": ["x"]}, "expected the columns dataset and s:MODEL"),
        ({"s:one": [1.0, 1.0]}, "expected the columns dataset and s:MODEL"),
    ],
)
def test_a_table_that_tells_nothing_is_refused(tmp_path, columns, message):
    with pytest.raises(InputError, match=message):
        read_scores(table(tmp_path, **columns), ["one"])


def test_a_file_that_is_no_table_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such file; make one"):
        read_scores(tmp_path / "gone.parquet", ["one"])
    path = tmp_path / "text.parquet"
    path.write_text("no table")
    with pytest.raises(InputError, match="is no Parquet file"):
        read_scores(path, ["one"])
