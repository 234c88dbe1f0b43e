"""A directory is written whole or not at all, and what the user has there stays unless asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.rendering import write_tree
from profiler.errors import InputError

FILES = {"base/a.yaml": "a: 1\n", "b.yaml": "b: 2\n"}


def test_a_new_directory_appears_with_all_files(tmp_path: Path) -> None:
    made = tmp_path / "deep" / "out"
    assert write_tree(made, FILES, replace=False) == 2
    assert (made / "base/a.yaml").read_text() == "a: 1\n"
    assert [p.name for p in made.parent.iterdir()] == ["out"]


def test_the_same_again_writes_nothing(tmp_path: Path) -> None:
    write_tree(tmp_path / "out", FILES, replace=False)
    assert write_tree(tmp_path / "out", FILES, replace=False) == 0


def test_other_content_is_replaced_only_when_asked_and_files_of_others_stay(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text("mine")
    (tmp_path / "own.yaml").write_text("mine")
    with pytest.raises(InputError, match=r"holds other content \(b.yaml\); pass -y"):
        write_tree(tmp_path, FILES, replace=False)
    assert not (tmp_path / "base").exists()
    assert write_tree(tmp_path, FILES, replace=True) == 2
    assert (tmp_path / "b.yaml").read_text() == "b: 2\n"
    assert (tmp_path / "own.yaml").read_text() == "mine"


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(InputError, match="is a file, expected a directory"):
        write_tree(tmp_path / "out", FILES, replace=True)
