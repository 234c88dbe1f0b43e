"""`profile lookup` and `profile calibrate`: data on stdout, files kept, reasons for what is not."""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest

from orchestrator.cli import main
from profiler import documents
from profiler.core import Profile

needs_database = pytest.mark.skipif(
    not any(d.name == "aiconfigurator-core" for d in metadata.distributions()),
    reason="needs the extra silicon",
)


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run `profile` with these arguments in a directory and with a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.chdir(tmp_path)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}

    def run(*args: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["orchestrator", "profile", *args])
        with pytest.raises(SystemExit) as ended:
            main()
        return Done(ended.value.code or 0, *capsys.readouterr())

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


def read(path: Path) -> Profile:
    return documents.parse(path.read_text(), Profile, path.name)


@needs_database
def test_a_look_up_prints_a_labelled_profile_and_saves_the_same(run, tmp_path):
    done = run("lookup", "llama-3.1-8b", "--gpu", "H100", "--save", "h100.yaml", "-o", "json")
    assert done.code == 0, done.err
    found = Profile.model_validate_json(done.out)
    assert found.provenance.kind == "silicon"
    assert found.config.key == "llama-3.1-8b@1xH100"
    assert read(tmp_path / "h100.yaml") == found
    assert "looking llama-3.1-8b@1xH100 up" in done.err
    assert "wrote h100.yaml" in done.err


@needs_database
def test_a_look_up_as_a_table_names_source_and_step(run):
    done = run("lookup", "llama-3.1-8b", "--gpu", "H100", "--max-num-seqs", "64")
    assert done.code == 0, done.err
    rows = dict(line.split(maxsplit=1) for line in done.out.splitlines() if line.strip())
    assert rows["replica"].strip() == "llama-3.1-8b@1xH100"
    assert rows["source"].startswith("silicon")
    assert "aiconfigurator-core" in rows["engine"]


@needs_database
@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("llama-3.1-8b", "--gpu", "L4"), 2, "`profile compute` estimates any model on any GPU"),
        (("llama-3.1-70b", "--gpu", "H100"), 3, "try a larger --tensor-parallel"),
    ],
    ids=["GPU not in the database", "does not fit"],
)
def test_without_an_answer_the_reason_and_the_way_on_are_told(run, tmp_path, args, code, message):
    done = run("lookup", *args, "--save", "p.yaml")
    assert done.code == code
    assert message in done.err
    assert done.out == ""
    assert not (tmp_path / "p.yaml").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("llama-3.1-8", "--gpu", "H100"), "did you mean 'llama-3.1-8b'"),
        (("llama-3.1-8b", "--gpu", "H10"), "did you mean 'H100'"),
    ],
)
def test_a_name_nobody_knows_is_answered_with_the_nearest(run, args, message):
    done = run("lookup", *args)
    assert done.code == 2
    assert message in done.err


@pytest.mark.parametrize("command", [("lookup", "llama-3.1-8b", "--gpu", "H100"), ("calibrate",)])
def test_a_file_that_is_there_is_not_replaced_unasked(run, tmp_path, command):
    kept = tmp_path / "mine.yaml"
    kept.write_text("mine")
    done = run(*command, "--save", "mine.yaml")
    assert done.code == 2
    assert "pass -y to replace it" in done.err
    assert kept.read_text() == "mine"


@pytest.mark.parametrize("command", [("lookup", "llama-3.1-8b", "--gpu", "H100"), ("calibrate",)])
def test_without_the_extra_both_say_how_to_get_it(run, monkeypatch, command):
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    done = run(*command)
    assert done.code == 2
    assert "pip install 'llm-orchestrator[silicon]'" in done.err
