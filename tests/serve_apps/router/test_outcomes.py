"""An outcome table is read, or the reason why not is told with its mend."""

import sys
from pathlib import Path

import pytest

from profiler.errors import InputError
from serve_apps.router.outcomes import read_outcomes


def test_a_missing_reader_of_parquet_is_told_with_its_mend(monkeypatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(InputError, match=r"need pyarrow; pip install"):
        read_outcomes(tmp_path / "outcomes.parquet")


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"outcomes\.parquet: no such file"):
        read_outcomes(tmp_path / "outcomes.parquet")
