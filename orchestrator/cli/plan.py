"""`plan`: the cheapest fleet for a service."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.output import (
    Format,
    OutputOption,
    YesOption,
    emit,
    refuse_to_overwrite,
    say,
    steps,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from placement.plan import Plan


def plan(
    service: Annotated[Path, typer.Argument(help="The service file.")],
    save: Annotated[
        Path | None, typer.Option("--save", "-s", help="Write the plan file here.")
    ] = None,
    output: OutputOption = Format.TABLE,
    time_limit: Annotated[
        float, typer.Option(min=0.1, help="Seconds the solver may take, per fleet compared.")
    ] = 30.0,
    gap: Annotated[
        float, typer.Option(min=0.0, help="Stop when proven this near the optimum (fraction).")
    ] = 1e-4,
    yes: YesOption = False,
) -> None:
    """Find the cheapest mix of GPUs that serves the traffic inside the latency targets."""
    from orchestrator.loading import load_service
    from orchestrator.planning import build_problem
    from placement.planner import make_plan
    from profiler import documents

    if save is not None:
        refuse_to_overwrite(save, yes=yes)
    with steps("planning") as step:
        loaded = load_service(service)
        problem = build_problem(loaded, step)
        found = make_plan(
            problem,
            loaded.service.name,
            targets=loaded.service.targets,
            time_limit_s=time_limit,
            gap=gap,
            on_step=step,
        )
    if save is not None:
        documents.write(save, documents.dump(found))

    emit(found.model_dump(mode="json", exclude_none=True), output, lambda: _tables(found))
    if save is not None:
        say(f"wrote {save}; next: orchestrator deploy {save}")


def _tables(found: Plan) -> list[RenderableType]:
    from orchestrator.report import plan_tables

    return list(plan_tables(found))


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(plan)
