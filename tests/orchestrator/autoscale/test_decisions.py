"""Decisions are kept one a line, and the file does not grow for ever."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.autoscale.decisions import Journal, ScaleDecision, read_journal
from profiler.errors import InputError

ONE = ScaleDecision(10.0, "a", 1, 2, "because", 3.0, 5.0, 0.5, -1.5, 1200.0, 7.5)


def test_what_is_put_down_is_read_again(tmp_path):
    path = tmp_path / "j.jsonl"
    Journal(path).add([ONE, replace(ONE, time_s=20.0)])
    Journal(path).add([replace(ONE, time_s=30.0)])
    assert [d.time_s for d in read_journal(path)] == [10.0, 20.0, 30.0]
    assert read_journal(path)[0] == ONE
    assert ONE.saving_usd == 1.0
    assert ONE.line().startswith("a 1 -> 2: because (3.00 req/s ahead")


def test_the_oldest_go(tmp_path):
    path = tmp_path / "j.jsonl"
    journal = Journal(path, kept=10)
    for k in range(21):
        journal.add([replace(ONE, time_s=float(k))])
    assert [d.time_s for d in read_journal(path)] == [float(k) for k in range(11, 21)]


def test_a_cut_last_line_is_passed_over_and_any_other_named(tmp_path):
    path = tmp_path / "j.jsonl"
    Journal(path).add([ONE])
    with path.open("a") as f:
        f.write('{"time_s": 4')
    assert read_journal(path) == [ONE]
    path.write_text("nonsense\n" + path.read_text())
    with pytest.raises(InputError, match="line 1"):
        read_journal(path)
