"""Points are kept as they are measured; whatever is wrong with the file, nothing is lost."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from profiler.errors import InputError
from profiler.points import SCHEMA_VERSION, Identity, PointsFile, Run, available
from profiler.probes import Probe
from profiler.step_fit import Point

ME = Identity(config="{}", engine="vllm 1", host="here", hardware="CPU")


def run(sequences: int = 1, *, power_w: float | None = None) -> Run:
    points = (
        Point("prefill", 0.5, steps=2, prefill_tokens=600, overheads=1),
        Point("decode", 0.05, sequences=sequences, kv_tokens=45.5),
    )
    return Run(Probe(sequences, 600, 26), points, 3.5, 1.7e9, 0.25, power_w)


def test_what_is_kept_reads_back(tmp_path):
    path = tmp_path / "p.parquet"
    kept = PointsFile(path, ME)
    assert (kept.runs, kept.note) == ([], None)
    for made in (run(), run(4, power_w=300.0), run()):
        kept.add(made)
    again = PointsFile(path, ME)
    assert again.runs == kept.runs == [run(), run(4, power_w=300.0), run()]
    assert again.note is None
    version = pq.read_schema(path).metadata[b"orchestrator_points_version"]
    assert version == str(SCHEMA_VERSION).encode()
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_holds_several_identities_apart(tmp_path):
    path = tmp_path / "p.parquet"
    other = Identity(config="{}", engine="vllm 2", host="here", hardware="CPU")
    PointsFile(path, ME).add(run(1))
    PointsFile(path, other).add(run(2))
    assert PointsFile(path, ME).runs == [run(1)]
    assert PointsFile(path, other).runs == [run(2)]


def write_table(path: Path, metadata: dict[bytes, bytes] | None) -> None:
    pq.write_table(pa.table({"mine": [1, 2]}).replace_schema_metadata(metadata), path)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: p.write_bytes(b"not parquet"), "damaged, or not a Parquet file"),
        (lambda p: p.write_bytes(b""), "damaged"),
        (lambda p: write_table(p, None), "not one of measured points"),
        (
            lambda p: write_table(p, {b"orchestrator_points_version": b"99"}),
            "found schema version 99, expected 1",
        ),
        (
            lambda p: write_table(p, {b"orchestrator_points_version": b"1"}),
            "lacks the columns config",
        ),
    ],
    ids=["text", "empty", "foreign", "newer", "columns"],
)
def test_a_file_of_another_kind_is_kept_aside(tmp_path, make, words):
    path = tmp_path / "p.parquet"
    (tmp_path / "p.parquet.aside-1").write_text("an older one")
    make(path)
    before = path.read_bytes()
    kept = PointsFile(path, ME)
    assert words in kept.note and "p.parquet.aside-2" in kept.note
    kept.add(run())
    assert (tmp_path / "p.parquet.aside-1").read_text() == "an older one"
    assert (tmp_path / "p.parquet.aside-2").read_bytes() == before
    assert PointsFile(path, ME).runs == [run()]


def test_a_cut_off_file_is_damaged_not_empty(tmp_path):
    path = tmp_path / "p.parquet"
    PointsFile(path, ME).add(run())
    path.write_bytes(path.read_bytes()[:-20])
    assert "damaged" in PointsFile(path, ME).note


def test_a_full_disk_is_said_and_earlier_points_stay(tmp_path):
    path = tmp_path / "p.parquet"
    PointsFile(path, ME).add(run(1))

    def full(target: str | Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    kept = PointsFile(path, ME, write=full)
    with pytest.raises(InputError, match=r"No space left.*1 measured probes are safe in .*p\.par"):
        kept.add(run(2))
    assert kept.runs == PointsFile(path, ME).runs == [run(1)]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_device_without_space_is_an_input_error(tmp_path):
    def to_full(target: str | Path, content: bytes) -> None:
        with Path("/dev/full").open("wb", buffering=0) as device:
            device.write(content)

    with pytest.raises(InputError, match="No space left on device"):
        PointsFile(tmp_path / "p.parquet", ME, write=to_full).add(run())


def test_a_missing_directory_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="cannot write here"):
        PointsFile(tmp_path / "nowhere/p.parquet", ME).add(run())


def test_without_pyarrow_the_mend_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert not available()
    with pytest.raises(InputError, match=r"pip install 'llm-orchestrator\[profile\]'"):
        PointsFile(tmp_path / "p.parquet", ME)
