"""The supervisor keeps a pool through what goes wrong around it. Ray is replaced by a script."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.deploy import local_supervisor
from orchestrator.deploy.base import ScaleRequest, Status
from orchestrator.deploy.local_supervisor import Supervisor, stop_ray
from orchestrator.deploy.state import StateDir
from placement.plan import Plan
from profiler.errors import EngineError, InputError
from tests.plan_builders import group, plan

A, B, C = (plan((group(name),)) for name in "abc")


def stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


class FakePool:
    """Applications that are in force as soon as ``on_settle`` does not raise."""

    serve_status = None

    def __init__(self, on_settle: Callable[[Plan], None] = lambda p: None) -> None:
        self.on_settle = on_settle
        self.applied: list[str] = []

    def settings(self, p: Plan, *, emulate: bool = False) -> dict[str, Any]:
        return {}

    def apply(self, p: Plan, settings: dict[str, Any]) -> None:
        self.applied.append(p.groups[0].name)

    def settle(self, p: Plan) -> bool:
        self.on_settle(p)
        return True

    def healthy(self, p: Plan) -> bool:
        stop()
        return True

    def failed(self) -> dict[str, int]:
        return {}

    def retire(self) -> None:
        pass


@pytest.fixture(autouse=True)
def alone(serve: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(local_supervisor, "start_ray", lambda: None)
    monkeypatch.setattr(local_supervisor, "stop_ray", lambda drain: None)
    monkeypatch.setattr(local_supervisor, "TICK_S", 0.0)
    monkeypatch.setattr(local_supervisor, "FIRST_TICK_S", 0.0)
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = [signal.getsignal(n) for n in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


class Recorded(StateDir):
    """Remembers every status written."""

    def __init__(self, root: Path) -> None:
        super().__init__("demo", root)
        self.path.mkdir()
        self.request(A)
        self.seen: list[Status] = []

    def write_status(self, status: Status) -> None:
        self.seen.append(status)
        super().write_status(status)


def run(state: StateDir, pool: Any) -> int:
    return Supervisor(state, 8000, keep_on_failure=False, pool=pool).run()


def test_a_full_disk_does_not_end_the_pool(tmp_path: Path) -> None:
    class Full(Recorded):
        def write_status(self, status: Status) -> None:
            self.seen.append(status)
            raise InputError("status.json: No space left on device")

        def write_in_force(self, p: Plan) -> None:
            raise InputError("in_force.yaml: No space left on device")

    state = Full(tmp_path)
    assert run(state, FakePool()) == 0
    assert "running" in {s.state for s in state.seen}


def test_what_ray_refuses_for_a_moment_is_tried_again(tmp_path: Path) -> None:
    from ray.exceptions import RayError
    from ray.serve.exceptions import RayServeException

    errors = [RayError("controller died"), RayServeException("no controller")]

    def settle(p: Plan) -> None:
        if errors:
            raise errors.pop()

    state, pool = Recorded(tmp_path), FakePool(settle)
    assert run(state, pool) == 0
    assert pool.applied == ["a", "a", "a"]
    assert any("trying again" in s.message for s in state.seen)
    assert "failed" not in {s.state for s in state.seen}


def test_a_failed_change_goes_back_and_loses_no_later_request(tmp_path: Path) -> None:
    state = Recorded(tmp_path)
    ids = {}

    def settle(p: Plan) -> None:
        if p == B:  # while it fails, another command asks for C
            ids["c"] = state.request(C).id
            os.kill(os.getpid(), signal.SIGHUP)
            raise EngineError("group 'b': boom", "tail")

    class Changing(FakePool):
        def healthy(self, p: Plan) -> bool:
            if p == A and "b" not in ids:
                ids["b"] = state.request(B).id
                os.kill(os.getpid(), signal.SIGHUP)
            elif p == C:
                stop()
            return True

    pool = Changing(settle)
    assert run(state, pool) == 0
    assert pool.applied == ["a", "b", "a", "c"]
    failures = {s.failure.request for s in state.seen if s.failure}
    assert failures == {ids["b"]}
    last = [s for s in state.seen if s.state == "running"][-1]
    assert (last.request, last.plan_digest, last.failure) == (ids["c"], C.digest, None)
    assert state.read_request().plan == C
    assert state.read_in_force() == C


def test_preparing_weights_is_broken_off_with_its_child(tmp_path: Path) -> None:
    started = tmp_path / "started"
    child = (
        "import os, signal, pathlib, sys; pathlib.Path(sys.argv[1]).write_text(str(os.getpid()));"
        "os.kill(os.getppid(), signal.SIGTERM); signal.pause()"
    )

    class Converting(FakePool):
        def settings(self, p: Plan, *, emulate: bool = False) -> dict[str, Any]:
            subprocess.run([sys.executable, "-c", child, str(started)], check=True)
            raise AssertionError("it was to be broken off")

    state = Recorded(tmp_path)
    assert run(state, Converting()) == 0
    assert state.seen[-1].state == "stopped"
    assert not Path(f"/proc/{started.read_text()}").exists()


def test_rays_files_go_even_when_ray_did_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = tmp_path / "orch-ray-x", tmp_path / "ray"
    for directory in (ours, theirs):
        directory.mkdir()
        monkeypatch.setenv("RAY_TMPDIR", str(directory))
        stop_ray(drain=True)
    assert (ours.exists(), theirs.exists()) == (False, True)


class Scaled(FakePool):
    """Has as many replicas as it is told, but for those that ``fails`` says it cannot start."""

    def __init__(self, steps: list[Callable[[], None]], fails: dict[str, int]) -> None:
        super().__init__()
        self.steps, self.fails = steps, fails
        self.told: list[dict[str, int]] = []

    def settings(self, p: Plan, *, emulate: bool = False) -> dict[str, Any]:
        return {g.name: g.replicas for g in p.groups}

    def apply(self, p: Plan, settings: dict[str, Any]) -> None:
        super().apply(p, settings)
        self.told.append(settings)

    def healthy(self, p: Plan) -> bool:
        if self.steps:
            self.steps.pop(0)()
        else:
            stop()
        return True

    def failed(self) -> dict[str, int]:
        return self.fails if self.told and self.told[-1].get("a", 0) > 2 else {}


def test_replicas_follow_what_an_autoscaler_asks_for_until_another_plan_comes(
    tmp_path: Path,
) -> None:
    state = Recorded(tmp_path)

    def ask(count: int) -> Callable[[], None]:
        request = state.read_request().id
        asked = ScaleRequest(id=f"{count}", request=request, replicas={"a": count})
        return lambda: state.scale(asked)

    def replace() -> None:
        state.request(C)
        os.kill(os.getpid(), signal.SIGHUP)

    pool = Scaled([ask(2), ask(0), state.forget_scale, ask(2), replace], {})
    assert run(state, pool) == 0
    assert pool.told == [{"a": 1}, {"a": 2}, {}, {"a": 1}, {"a": 2}, {"c": 1}]
    last = state.seen[-1].groups[0]
    assert (last.name, last.wanted, last.planned) == ("c", 1, None)


def test_replicas_that_cannot_be_started_are_given_up_and_told(tmp_path: Path) -> None:
    state = Recorded(tmp_path)
    asked = ScaleRequest(id="x", request=state.read_request().id, replicas={"a": 3})
    pool = Scaled([lambda: state.scale(asked), lambda: None, lambda: None], {"a": 1})
    assert run(state, pool) == 0
    assert pool.told == [{"a": 1}, {"a": 3}, {"a": 1}]
    last = state.seen[-1]
    assert (last.scale, last.groups[0].wanted, last.groups[0].failed_starts) == ("x", 1, 1)
