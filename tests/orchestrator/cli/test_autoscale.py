"""`autoscale` runs the loop on a target; `explain scale` tells what it did."""

from __future__ import annotations

import json
from concurrent.futures import Executor, Future

import pytest
from typer.testing import CliRunner

from orchestrator import autoscale_replanning, autoscale_targets
from orchestrator.autoscale_targets import Target
from orchestrator.cli import app
from orchestrator.loading import load_service
from orchestrator.planning import build_problem
from placement.plan import Plan
from placement.planner import mix, without_unservable
from profiler import documents
from profiler.errors import ClusterError, InputError, OrchestratorError
from tests.orchestrator.autoscale.test_controller import ONE, each_rps
from tests.orchestrator.autoscale.test_loop import Fleet
from tests.orchestrator.test_replanning import SERVICE


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


class AtOnce(Executor):
    """In the place of a process that solves."""

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except OrchestratorError as error:
            future.set_exception(error)
        return future


@pytest.fixture
def small(run, tmp_path, monkeypatch):
    """Two H100s with so little to do that another type would be cheaper, and the service's file."""
    service = tmp_path / "service.yaml"
    service.write_text(SERVICE)
    problem = build_problem(load_service(service)).only("H100")
    plan = mix(without_unservable(problem), "chat").plan
    documents.write(tmp_path / "plan.yaml", documents.dump(plan))
    run.fleet.replicas = {g.name: 2 for g in plan.groups}
    first = plan.routes[0]
    run.fleet.arrivals = lambda: {(first.stream, first.bucket.key): 20}
    monkeypatch.setattr(autoscale_replanning, "_process", AtOnce)
    return plan


def test_a_cheaper_plan_is_written_said_and_explained(run, small, tmp_path):
    done = run("autoscale", "plan.yaml", "--target", "fake", "--turns", "20",
               "--service", "service.yaml")  # fmt: skip
    (file,) = tmp_path.glob("plan.replanned-*.yaml")
    assert {g.config.gpu for g in documents.read(file, Plan).groups} == {"L40S"}
    assert done.stderr.count("another plan (") == 1
    assert f"orchestrator deploy {file.name}" in done.stderr
    told = json.loads(run("explain", "scale", "plan.scaling.jsonl", "-o", "json").stdout)
    assert told[-1]["saving_usd"] > 0
    assert "another plan (" in run("explain", "scale", "plan.scaling.jsonl").stdout


def test_plans_are_put_in_force_only_where_asked_to_and_where_that_can_be(run, small, tmp_path):
    with pytest.raises(InputError, match="expected --service FILE"):
        run("autoscale", "plan.yaml", "--target", "fake", "--replan", "apply")
    with pytest.raises(InputError, match="expected --replan suggest"):
        run("autoscale", "plan.yaml", "--target", "fake", "--replan", "apply",
            "--service", "service.yaml")  # fmt: skip
    run("autoscale", "plan.yaml", "--target", "fake", "--turns", "20", "--replan", "off",
        "--service", "service.yaml")  # fmt: skip
    assert not list(tmp_path.glob("plan.replanned-*.yaml"))


def test_a_target_that_cannot_be_scaled_is_named(run):
    with pytest.raises(ClusterError, match="nowhere: a fleet there cannot be scaled"):
        run("autoscale", "plan.yaml", "--target", "nowhere")


def test_a_limit_that_is_none_is_named(run):
    with pytest.raises(InputError, match="--min a: expected GROUP=N"):
        run("autoscale", "plan.yaml", "--target", "fake", "--min", "a")
