"""`profile import` and `profile value` from the command line, with their mistakes."""

import json

import pytest
from typer.testing import CliRunner

from orchestrator.cli import app
from profiler import documents
from profiler.core import Profile
from profiler.errors import InputError

MELANGE = {
    "A10G": {"cost": 1.01, "tputs": [[5, 2], [1, 0]]},
    "A100-80GB": {"cost": 3.67, "tputs": [[12, 5], [4, 2]]},
}
SAID = [
    "--format", "melange", "--model", "llama-3.1-8b", "--ttft", "2", "--tpot", "0.06",
    "--input-tokens", "128,2048", "--output-tokens", "64,512",
]  # fmt: skip


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tmp_path.joinpath("m.json").write_text(json.dumps(MELANGE))

    def run(*args):
        done = CliRunner().invoke(app, ["profile", *args])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    return run


def test_several_profiles_go_into_a_directory(run, tmp_path):
    assert run("import", "m.json", *SAID, "--save", "out").exit_code == 0
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == ["llama-3.1-8b-A100-80GB-tp1.yaml", "llama-3.1-8b-A10G-tp1.yaml"]
    with pytest.raises(InputError, match="exists already; pass -y"):
        run("import", "m.json", *SAID, "--save", "out")


def test_one_profile_goes_into_a_file_and_is_used(run, tmp_path):
    run("import", "m.json", *SAID, "--gpu", "A10G", "--save", "a10g.yaml")
    assert len(documents.read(tmp_path / "a10g.yaml", Profile).rates) == 4
    done = run(
        "value", "--models", "llama-3.1-8b", "--gpus", "A10G,H100", "-p", "a10g.yaml",
        "--sizes", "128+64,2048+512", "-o", "json", "--html", "page.html",
    )  # fmt: skip
    cells = json.loads(done.stdout)["cells"]
    first = cells[0]
    assert (first["basis"], first["rate_rps"]) == ("measured rate", pytest.approx(5.0))
    assert tmp_path.joinpath("page.html").read_text().startswith("<!doctype html>")
    with pytest.raises(InputError, match=r"page\.html exists already"):
        run("value", "--models", "llama-3.1-8b", "--html", "page.html")


def test_a_table_by_default(run):
    done = run("value", "--models", "llama-3.1-8b", "--gpus", "L4,H100", "--market", "both")
    assert "llama-3.1-8b, on demand" in done.stdout
    assert "llama-3.1-8b, spot" in done.stdout


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["value"], "name a service file, or models"),
        (["value", "--models", "llama-3.1-8b", "--sizes", "10x20"], "found '10x20', expected"),
        (["value", "--models", "llama-3.1-8b", "--sizes", ","], "found no size"),
        (["value", "s.yaml", "--models", "x"], "leave out"),
        (["import", "m.json", *SAID, "--input-tokens", "a,b"], "--input-tokens: found 'a,b'"),
        (["import", "m.json", *SAID, "--gpu", "A11G"], "did you mean 'A10G'"),
        (["import", "nope.json", *SAID], "nope.json: no such file"),
    ],
)
def test_mistakes_are_named(run, args, words):
    with pytest.raises(InputError, match=words):
        run(*args)
