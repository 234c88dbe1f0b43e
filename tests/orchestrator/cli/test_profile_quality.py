"""`profile quality` on the command line: a summary on stdout, a table on disk, honest exits."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from tests.fake_openai import FakeOpenAI

pytest.importorskip("pyarrow.parquet", reason="pyarrow (extra: profile)")

SET = "\n".join(
    json.dumps({"prompt": f"{i} + 1?", "answer": i + 1, "grader": "number"}) for i in range(8)
)


class Done:
    """What a command left behind."""

    def __init__(self, code: int, out: bytes, err: bytes) -> None:
        self.code, self.out, self.err = code, out.decode(), err.decode()


@pytest.fixture
def run(tmp_path):
    """Run `profile quality` in a directory of its own, where set.jsonl is."""
    (tmp_path / "set.jsonl").write_text(SET)
    env = os.environ | {"COLUMNS": "140", "PYTHONPATH": str(Path.cwd()), "OPENAI_API_KEY": "k1"}

    async def run(*args: str) -> Done:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "orchestrator", "profile", "quality", "set.jsonl", *args,
            cwd=tmp_path, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        assert process.returncode is not None
        return Done(process.returncode, out, err)

    return run


async def test_all_models_at_a_url_are_asked_and_summarised(run, tmp_path):
    server = FakeOpenAI(models=("one", "two"), reply=lambda m, t: str(int(t.split()[0]) + 1))
    async with server.serve() as url:
        done = await run("--url", url, "--price", "one=1/2", "-o", "json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert [line["model"] for line in found["models"]] == ["one", "two"]
    assert found["models"][0]["accuracy"] == 1.0 and found["models"][0]["low"] < 0.7
    assert found["models"][0]["usd"] == pytest.approx(8 * 14e-6)
    assert set(server.keys) == {"Bearer k1"}
    assert (tmp_path / "outcomes.parquet").exists()


async def test_a_model_that_fails_is_told_and_ends_with_4(run):
    async with (
        FakeOpenAI(models=("good",)).serve() as good,
        FakeOpenAI(models=("bad",), status=401).serve() as bad,
    ):
        done = await run("--model", f"good={good}", "--model", f"bad={bad}")
    assert done.code == 4
    assert "gave up on 1 of 2 models" in done.err and "HTTP 401: fake trouble" in done.err
    assert "12.5%" in done.out  # the good one's accuracy stands
    assert "(down)" in done.out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "no model to ask; give --url URL"),
        (("--model", "x"), "where is it served?"),
        (("--model", "x=localhost:1"), "not a URL"),
        (("--model", "x=http://a", "--model", "x=http://b"), "given twice"),
        (("--model", "x=http://a", "--price", "x=1"), "expected NAME=INPUT/OUTPUT"),
        (("--model", "xx=http://a", "--price", "xy=1/1"), "did you mean 'xx'"),
    ],
)
def test_a_mistake_on_the_line_is_explained(orchestrate, tmp_path, args, message):
    (tmp_path / "set.jsonl").write_text(SET)
    done = orchestrate("profile", "quality", "set.jsonl", *args)
    assert done.returncode == 2
    assert message in done.stderr
