"""The demo's second half: a burst over an emulated fleet that sheds, and scales."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from orchestrator.autoscale.decisions import ScaleDecision, read_journal
from orchestrator.deploy.base import AutoscaleSettings, Status
from orchestrator.deploy.local import local_status
from orchestrator.deploy.state import StateDir
from orchestrator.surge import Phases, Surge, send_surge, surge_trace
from orchestrator.surge_page import headline, page
from orchestrator.surge_view import showing
from orchestrator.watching import look
from placement.plan import Plan
from profiler import files
from profiler.errors import ClusterError
from profiler.sizes import Sizes
from profiler.traces import Trace

INTERVAL_S = 3.0
MISS_WORTH = 6.0
"""Lower than an operator's: ten seconds of load are little to trust a fleet to."""
WARM_UP_S = 20.0
BUDGET = 4.0
"""Times the plan's rent that the autoscaler may spend."""
MOST_REPLICAS = 4
"""Of each group: as many as a small machine can start in the time of the burst."""


def settings(plan: Plan) -> AutoscaleSettings:
    """How the demo's pool scales: quickly, as its burst is short."""
    return AutoscaleSettings(
        interval_s=INTERVAL_S,
        miss_worth=MISS_WORTH,
        warm_up_s=WARM_UP_S,
        budget_usd_per_hour=BUDGET * plan.cost.usd_per_hour,
        minimum={g.name: g.replicas for g in plan.groups},
        maximum={g.name: max(MOST_REPLICAS, g.replicas) for g in plan.groups},
    )


def run_surge(plan: Plan, url: str, sizes: Sizes, phases: Phases, console: Console) -> Surge:
    """Send the burst to the pool of the plan, and show how it does."""
    trace = surge_trace(plan_rate_rps(plan), sizes, phases)
    with showing(console) as show:
        return asyncio.run(_send(plan, url, trace, phases, show))


def plan_rate_rps(plan: Plan) -> float:
    """Requests per second that the plan was made for."""
    return sum(r.rate_rps for r in plan.routes)


def decisions_of(plan: Plan) -> list[ScaleDecision]:
    """What the pool's own autoscaler decided so far."""
    journal = StateDir(plan.service).scaling_journal
    return read_journal(journal) if journal.exists() else []


def write_report(surge: Surge, plan: Plan, decisions: list[ScaleDecision], path: Path) -> Path:
    """The page, in a file that was not there before: a number is added where one was.

    Raises:
        InputError: it cannot be written.
    """
    free, number = path, 1
    while free.exists():
        number += 1
        free = path.with_stem(f"{path.stem}-{number}")
    files.write(free, page(surge, plan, decisions))
    return free


def summary(surge: Surge, decisions: list[ScaleDecision]) -> str:
    """What happened, for the terminal."""
    lines = [headline(surge), *(f"  {d.line()}" for d in decisions)]
    return "\n".join(lines)


async def _send(
    plan: Plan, url: str, trace: Trace, phases: Phases, show: Callable[[Surge], None]
) -> Surge:
    from openai import AsyncOpenAI

    base = url.removesuffix("/v1")

    def seen() -> tuple[Status | None, dict[str, Any]]:
        found = look(base, None)
        if "groups" not in found:
            raise ClusterError(f"{base}: no live feed")
        return local_status(plan.service), found

    async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        return await send_surge(client, trace, plan.slo, seen, show, phases)
