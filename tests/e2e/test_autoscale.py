"""A pool on this machine grows and shrinks with its load, and loses no request over it.

Its engines are emulated here; real ones come and go in `test_local`.
"""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.autoscale.decisions import read_journal
from orchestrator.deploy.base import AutoscaleSettings
from orchestrator.deploy.local import delete_local, deploy_local
from placement.plan import Plan
from profiler.core import Slo
from profiler.engine import free_port
from tests import builders
from tests.e2e.scaling import Autoscaler, Load, Pool
from tests.plan_builders import group, plan, route
from tests.processes import descendants, none_left

NEEDS = ("ray", "aiohttp", "httptools")
MISSING = [name for name in NEEDS if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]
INPUTS, OUTPUTS = (0, 100), (0, 40)


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
