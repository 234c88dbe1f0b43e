"""`emulate` runs a plan's engines in the foreground and prints where they are."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli import app
from profiler import documents
from profiler.errors import InputError, UnknownNameError
from tests.plan_builders import group, plan, route

PLAN = plan(
    (group("a", gpu="L4", replicas=2), group("b", model="m2", gpu="H100")),
    (route({"a": 1.0}, outputs=(0, 300)), route({"a": 0.5, "b": 0.5}, outputs=(300, 900))),
)


@pytest.fixture
def plan_file(tmp_path: Path) -> Path:
    path = tmp_path / "plan.yaml"
    documents.write(path, documents.dump(PLAN))
    return path


def test_a_whole_plan_runs_in_one_process(plan_file: Path) -> None:
    command = [sys.executable, "-m", "orchestrator", "emulate", "--plan", str(plan_file)]
    with subprocess.Popen([*command, "-o", "json"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = []
        while not lines or lines[-1] != "]\n":
            lines.append(process.stdout.readline())
            assert lines[-1], "it ended"
        rows = json.loads("".join(lines))
        for row in rows:
            with urllib.request.urlopen(f"{row['url']}/models") as response:
                card = json.loads(response.read())["data"][0]
            assert (card["id"], card["owned_by"]) == (row["model"], "emulated")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert [row["engine"] for row in rows] == ["a 0", "a 1", "b"]


def test_what_is_missing_or_unknown_is_said(plan_file: Path) -> None:
    def fails(*args: str) -> BaseException | None:
        return CliRunner().invoke(app, ["emulate", *args]).exception

    assert isinstance(fails(), InputError)
    assert isinstance(fails("--plan", str(plan_file), "--group", "c"), UnknownNameError)
    wrong = fails("--plan", str(plan_file), "--fault", '{"kind": "sulk"}')
    assert isinstance(wrong, InputError)
    assert "--fault" in str(wrong)
