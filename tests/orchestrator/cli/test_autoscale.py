"""`autoscale` runs the loop on a target; `explain scale` tells what it did."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from orchestrator import autoscale_targets
from orchestrator.autoscale_targets import Target
from orchestrator.cli import app
from profiler import documents
from profiler.errors import ClusterError, InputError
from tests.orchestrator.autoscale.test_controller import ONE, each_rps
from tests.orchestrator.autoscale.test_loop import Fleet


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.time", lambda: fleet.now_s)
    documents.write(tmp_path / "plan.yaml", documents.dump(ONE))
    fleet = Fleet({"a": 1}, 4 * each_rps())

    def wait(seconds):
        fleet.now_s += seconds

    monkeypatch.setitem(autoscale_targets.TARGETS, "fake", lambda _: Target(fleet, fleet, wait))

    def run(*args):
        done = CliRunner().invoke(app, list(args))
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    run.fleet = fleet
    return run


def test_the_fleet_grows_and_the_reason_can_be_read(run, tmp_path):
    run("autoscale", "plan.yaml", "--target", "fake", "--turns", "6")
    assert run.fleet.replicas["a"] >= 4
    assert (tmp_path / "plan.scaling.json").exists()
    told = json.loads(run("explain", "scale", "plan.scaling.jsonl", "-o", "json").stdout)
    assert told[0]["group"] == "a"
    assert told[-1]["after"] == run.fleet.replicas["a"]
    assert "1 -> " in run("explain", "scale", "plan.scaling.jsonl").stdout


def test_limits_come_from_the_command_line(run):
    run("autoscale", "plan.yaml", "--target", "fake", "--turns", "6", "--max", "a=2")
    assert run.fleet.replicas["a"] == 2


def test_a_target_that_cannot_be_scaled_is_named(run):
    with pytest.raises(ClusterError, match="nowhere: a fleet there cannot be scaled"):
        run("autoscale", "plan.yaml", "--target", "nowhere")


def test_a_limit_that_is_none_is_named(run):
    with pytest.raises(InputError, match="--min a: expected GROUP=N"):
        run("autoscale", "plan.yaml", "--target", "fake", "--min", "a")
