"""`profile lookup` and `profile calibrate`: data on stdout, files kept, reasons for what is not."""

from __future__ import annotations

import functools
from importlib import metadata
from pathlib import Path

import pytest

from profiler import documents
from profiler.core import Profile

needs_database = pytest.mark.skipif(
    not any(d.name == "aiconfigurator-core" for d in metadata.distributions()),
    reason="needs the extra silicon",
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def run(orchestrate, cache, monkeypatch):
    """Run `profile` with these arguments; what one test looks up, the next finds in the cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    return functools.partial(orchestrate, "profile")


def read(path: Path) -> Profile:
    return documents.parse(path.read_text(), Profile, path.name)


@pytest.mark.slow
@needs_database
def test_a_look_up_prints_a_labelled_profile_and_saves_the_same(run, tmp_path):
    done = run("lookup", "llama-3.1-8b", "--gpu", "H100", "--save", "h100.yaml", "-o", "json")
    assert done.returncode == 0, done.stderr
    found = Profile.model_validate_json(done.stdout)
    assert found.provenance.kind == "silicon"
    assert found.config.key == "llama-3.1-8b@1xH100"
    assert read(tmp_path / "h100.yaml") == found
    assert "looking llama-3.1-8b@1xH100 up" in done.stderr
    assert "wrote h100.yaml" in done.stderr


@needs_database
def test_a_look_up_as_a_table_names_source_and_step(run):
    done = run("lookup", "llama-3.1-8b", "--gpu", "H100")
    assert done.returncode == 0, done.stderr
    rows = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if line.strip())
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
    assert done.returncode == code
    assert message in done.stderr
    assert done.stdout == ""
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
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.parametrize("command", [("lookup", "llama-3.1-8b", "--gpu", "H100"), ("calibrate",)])
def test_a_file_that_is_there_is_not_replaced_unasked(run, tmp_path, command):
    kept = tmp_path / "mine.yaml"
    kept.write_text("mine")
    done = run(*command, "--save", "mine.yaml")
    assert done.returncode == 2
    assert "pass -y to replace it" in done.stderr
    assert kept.read_text() == "mine"


@pytest.mark.parametrize("command", [("lookup", "llama-3.1-8b", "--gpu", "H100"), ("calibrate",)])
def test_without_the_extra_both_say_how_to_get_it(run, monkeypatch, command):
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    done = run(*command)
    assert done.returncode == 2
    assert "pip install 'llm-orchestrator[silicon]'" in done.stderr
