"""Answers survive whatever ends a run, and a damaged file says where."""

from __future__ import annotations

import resource

import pytest

from profiler.answer_log import AnswerLog, Record
from profiler.errors import InputError


def record(name: str = "1", **fields) -> Record:
    return Record(name, "small", "prompt", "options", **{"text": "ü\u2028\n", **fields})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out.answers.jsonl"


def fill(path, *records: Record) -> None:
    with AnswerLog(path) as log:
        for found in records:
            log.add(found)


def read(path) -> dict:
    with AnswerLog(path) as log:
        return dict(log.records)


def test_what_is_added_is_read_back_and_the_latest_counts(path):
    fill(path, record(), record("2", logprobs=(-0.5,), score=0.5), record(score=1.0))
    fill(path, record("3"))
    found = read(path)
    assert found["1", "small"] == record(score=1.0)
    assert found["2", "small"].logprobs == (-0.5,)
    assert set(found) == {("1", "small"), ("2", "small"), ("3", "small")}


def test_a_last_line_cut_short_is_dropped_and_writing_goes_on(path):
    fill(path, record("1"), record("2"))
    path.write_bytes(path.read_bytes()[:-9])
    fill(path, record("3"))
    assert [key[0] for key in read(path)] == ["1", "3"]


@pytest.mark.parametrize("line", [b"\xff\xfe", b"{}", b'{"id": 1}', b"null"])
def test_a_broken_line_inside_is_named_and_nothing_is_touched(path, line):
    fill(path, record("1"))
    damaged = path.read_bytes() + line + b"\n"
    path.write_bytes(damaged)
    with pytest.raises(InputError, match=r"answers\.jsonl:2: .* remove the line"):
        read(path)
    assert path.read_bytes() == damaged


def test_a_second_run_at_the_same_time_is_refused(path):
    with AnswerLog(path), pytest.raises(InputError, match="another run is writing"):
        read(path)
    assert read(path) == {}


def test_a_full_disk_is_told_and_what_was_kept_stays(path):
    fill(path, record("1"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with AnswerLog(path) as log:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, hard))
        try:
            with pytest.raises(InputError, match="the answers before this one are kept"):
                log.add(record("2"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [key[0] for key in read(path)] == ["1"]


def test_a_directory_that_is_missing_is_named(tmp_path):
    with pytest.raises(InputError, match="cannot write here"):
        read(tmp_path / "missing" / "x.jsonl")
