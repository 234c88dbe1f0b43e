"""A trained load policy decides `auto` behind a live gateway, or leaves it to prices."""

from __future__ import annotations

import asyncio
import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

NEEDS = ("aiohttp", "httptools", "uvloop", "starlette", "sklearn")
MISSING = [name for name in NEEDS if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]
if not MISSING:
    from benchmarks.burst_live import burst_plan, on_stand
    from benchmarks.stand_client import Client
    from placement.plan import Plan
    from serve_apps.router.load_values import LoadValues, Verdict, pool_of
    from serve_apps.router.planned_load import with_load_policy

PROMPTS = [f"prove the integral of {i} 77 1234 88 4321" for i in range(4)]


async def asked(url: str) -> set[tuple[str, str]]:
    """Who answered, and how the reason begins."""
    async with Client(url) as client:
        replies = [await client.ask(model="auto", prompt=p, tokens=2) for p in PROMPTS]
    assert all(r.ok for r in replies)
    told = [{k.lower(): v for k, v in r.headers.items()} for r in replies]
    return {(t["x-orchestrator-model"], t["x-orchestrator-reason"].partition(";")[0]) for t in told}


def with_policy(plan: Plan, directory: Path, *, won: bool) -> Plan:
    """A network that thinks most of the small model in any state."""
    pool = pool_of(plan)
    bias = np.array([0.0 if m == "large" else 1.0 for m in pool.models])
    verdict = Verdict(0.97, 0.95, 0.005, 0.99, 0.99, 24, 1.0)
    if not won:
        verdict = replace(verdict, learned=0.9)
    path = directory / "policy.npz"
    LoadValues(pool, ((np.zeros((12, 2)), bias),), verdict).save(path)
    return with_load_policy(plan, path)[0]


def test_a_policy_that_won_its_trial_chooses_where_prices_would_not(tmp_path: Path) -> None:
    plan, artefact = burst_plan(tmp_path)
    won = with_policy(plan, tmp_path, won=True)
    with on_stand(won, artefact) as url:
        found = asyncio.run(asked(url))
    assert won.router is not None
    assert won.router.load_policy is not None
    assert found == {("small", f"load policy {won.router.load_policy.version}")}
    with on_stand(with_policy(plan, tmp_path, won=False), artefact) as url:
        found = asyncio.run(asked(url))
    assert {model for model, _ in found} == {"large"}
    assert not any("load policy" in reason for _, reason in found)
