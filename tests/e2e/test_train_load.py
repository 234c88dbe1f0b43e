"""`router train-load`: practice in the simulator makes a policy that a plan can use."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.simulation.load_episodes import Sizes
from profiler import documents
from serve_apps.router.load_values import load_values, pool_of
from tests.orchestrator.simulation.test_load_episodes import plan, quality

pytest.importorskip("torch")
pytestmark = pytest.mark.e2e


def test_practice_teaches_more_than_chance() -> None:
    from orchestrator.simulation.load_learning import Practice, learn

    of = plan()
    sizes = Sizes(np.array([50, 100, 150]), np.array([10, 30, 60]))
    practice = Practice(of, pool_of(of), sizes, lambda n, _: quality(n))
    found = learn(practice, seconds=600, trials=6, most_episodes=30)
    assert found.verdict.patterns == 6
    assert found.verdict.learned > 0.6 / 0.9  # always the small model


def test_the_command_writes_a_policy_for_its_plan(tmp_path: Path) -> None:
    file, save = tmp_path / "plan.yaml", tmp_path / "policy.npz"
    documents.write(file, documents.dump(plan()))
    args = ["router", "train-load", str(file), "--minutes", "0.02", "--trials", "2"]
    done = CliRunner().invoke(app, [*args, "--save", str(save), "-o", "json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["quality"] == "assumed"
    load_values(save).require_pool(plan())
