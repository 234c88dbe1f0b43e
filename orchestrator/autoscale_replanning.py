"""The autoscaler's solver, and what it does with a plan: processes, threads and files."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from orchestrator import replanning
from orchestrator.autoscale.decisions import ReplanDecision
from orchestrator.autoscale.market import Market, Potential
from orchestrator.autoscale.policy import ScalePolicy
from orchestrator.autoscale.replan import Replanner, Wish
from orchestrator.autoscale.session import replanned_path
from orchestrator.autoscale_targets import Target
from orchestrator.loading import load_service
from placement.plan import Plan
from profiler import documents
from profiler.errors import InputError


@dataclass(frozen=True)
class ServiceSolver:
    """`orchestrator.autoscale.replan.Solver` of a service file; it can be sent to a process."""

    service: Path
    plan: Plan
    cold_s: float
    drain_s: float
    headroom: float
    horizon_h: float

    def survey(self) -> Market:
        """See `orchestrator.replanning.survey`."""
        return replanning.survey(self.service, self.plan)

    def replan(self, wish: Wish) -> replanning.Answer | None:
        """See `orchestrator.replanning.replan`."""
        return replanning.replan(
            replanning.Ask(
                service=self.service,
                plan=wish.plan,
                rates_rps=wish.rates_rps,
                running=wish.running,
                out=wish.out,
                headroom=self.headroom,
                cold_s=self.cold_s,
                drain_s=self.drain_s,
                horizon_h=self.horizon_h,
            )
        )


def replanner_of(
    plan: Plan,
    plan_file: Path,
    service: Path,
    place: Target,
    policy: ScalePolicy,
    horizon_h: float,
    told: Callable[[ReplanDecision], None],
    say: Callable[[str], None],
    *,
    may_apply: bool,
) -> Replanner[Target]:
    """A replanner that solves in a process of its own and deploys in a thread.

    Raises:
        InputError: the service file is wrong or another's, or plans cannot be put in force there.
    """
    name = load_service(service).service.name
    if name != plan.service:
        raise InputError(f"{service}: found the service {name!r}, expected {plan.service!r}")
    if may_apply and place.apply is None:
        raise InputError(
            "--replan apply: a plan for this target is put in force by `orchestrator deploy`; "
            "expected --replan suggest"
        )
    cold_s = max(policy.cold_s(g.name) for g in plan.groups)
    directory = plan_file.parent
    apply = place.apply

    def keep(found: Plan) -> str:
        path = replanned_path(plan_file, found)
        documents.write(path, documents.dump(found))
        return str(path)

    return Replanner(
        plan=plan,
        solver=ServiceSolver(
            service.resolve(), plan, cold_s, policy.drain_s, policy.headroom, horizon_h
        ),
        workers=_process,
        appliers=lambda: ThreadPoolExecutor(1, thread_name_prefix="apply"),
        potential=lambda m: Potential(m, horizon_h * 3600, cold_s, policy.drain_s),
        keep=keep,
        told=told,
        say=say,
        apply=(lambda found: apply(found, directory)) if may_apply and apply else None,
        budget_usd_per_hour=policy.budget_usd_per_hour,
    )


def _process() -> Executor:
    """One process that gives way to all others; it begins without this one's memory."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, mp_context=context, initializer=replanning.in_worker)
