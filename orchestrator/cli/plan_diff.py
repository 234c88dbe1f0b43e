"""`plan diff`: what separates two plans, or a plan from what runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.output import Format, OutputOption, emit, say

if TYPE_CHECKING:
    from rich.console import RenderableType

    from placement.plan import Plan

RUNNING = "running"


def diff(
    before: Annotated[str, typer.Argument(help="A plan file, or `running`.")],
    after: Annotated[Path, typer.Argument(help="A plan file.")],
    output: OutputOption = Format.TABLE,
) -> None:
    """Show what changes from one plan to another: groups, cost, and requests that move."""
    from orchestrator.plan_diff import plan_diff
    from placement.plan import Plan
    from profiler import documents

    later = documents.read(after, Plan)
    earlier_plan = running(later.service) if before == RUNNING else documents.read(before, Plan)
    found = plan_diff(earlier_plan, later)
    emit(found.model_dump(mode="json"), output, lambda: tables(earlier_plan, later))


def earlier(against: str, service: Path) -> Plan:
    """The plan that a new one is set against: a file's, or the one that the service runs.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    from placement.plan import Plan
    from profiler import documents

    if against != RUNNING:
        return documents.read(against, Plan)
    from orchestrator.loading import load_service

    return running(load_service(service).service.name)


def running(name: str) -> Plan:
    """The plan that runs under a service's name on this machine.

    Raises:
        InputError: nothing does.
    """
    from orchestrator.deploy.local import running_plan
    from profiler.errors import InputError

    found = running_plan(name)
    if found is None:
        raise InputError(f"no service {name!r} runs on this machine; name a plan file instead")
    return found


def tables(before: Plan, after: Plan) -> list[RenderableType]:
    """The difference for a terminal."""
    from orchestrator.plan_diff import diff_lines, plan_diff

    return list(diff_lines(plan_diff(before, after)))


def narrate(before: Plan, after: Plan) -> None:
    """The difference beside data that goes to standard output."""
    for line in tables(before, after):
        say(str(line))


def add_to(group: typer.Typer) -> None:
    """Register the command."""
    group.command()(diff)
