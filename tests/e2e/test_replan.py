"""A pool moves to a cheaper plan by itself, under load, and loses no request over it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.autoscale.decisions import read_replans
from orchestrator.deploy.local import running_plan
from orchestrator.loading import load_service
from orchestrator.planning import build_problem
from placement.planner import mix, without_unservable
from tests.e2e.scaling import Autoscaler, Load, Pool
from tests.e2e.test_autoscale import MISSING, deployed, root

__all__ = ["deployed", "root"]
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]

SERVICE = """
version: 1
name: moves
models: [{model: llama-3.1-8b, tensor_parallel: [1]}]
gpus: [L40S, H100]
slo: {ttft_s: 2.0, tpot_s: 0.06, attainment: 0.95}
workload: {rate_rps: 2, sizes: azure-chat}
gateway: {guard: {allow_anonymous: true}}
"""


def test_a_cheaper_plan_comes_in_force_and_no_request_is_lost(
    deployed: Callable[..., Pool],
    root: Path,
    tmp_path: Path,
) -> None:
    service = tmp_path / "service.yaml"
    service.write_text(SERVICE)
    problem = build_problem(load_service(service)).only("H100")
    made = mix(without_unservable(problem), "moves").plan
    pool = deployed(made, emulate=True)
    load = Load(pool.status.url, tokens=20)
    names = {g.name for g in made.groups}
    options = ("--interval", "1", "--warm-up", "5", "--cold-start", "5", "--replan", "apply")
    options += ("--service", str(service), *(f"--min={n}=1" for n in names))

    async def course(autoscaler: Autoscaler) -> None:
        async with load.running():
            load.rate_rps = 2.0
            await pool.until(lambda s: not names & {g.name for g in s.groups}, 240)
            await pool.until(lambda s: s.state == "running" and s.groups[0].ready > 0, 120)
            await pool.until(lambda _: autoscaler.journal.exists(), 60)
            load.outcomes.append("moved")
            while load.outcomes[-1] != "200":
                await asyncio.sleep(0.1)

    with Autoscaler(made, root, tmp_path, *options) as autoscaler:
        asyncio.run(course(autoscaler))
        (told,) = read_replans(autoscaler.journal)
    assert set(load.outcomes) == {"200", "moved"}, set(load.refusals)
    assert told.action == "applied"
    now = running_plan("moves", root)
    assert now is not None
    assert {g.config.gpu for g in now.groups} == {"L40S"}
    assert now.cost.usd_per_hour < made.cost.usd_per_hour
