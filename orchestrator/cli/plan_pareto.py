"""`plan pareto`: what a limit costs, from its strictest setting to its loosest."""

from __future__ import annotations

import enum
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
    stdout,
    steps,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from placement.explanation import Pareto


class OverName(enum.StrEnum):
    """The limit that is varied."""

    QUALITY = "quality"
    TTFT = "ttft"
    TPOT = "tpot"


def pareto(
    service: Annotated[Path, typer.Argument(help="The service file.")],
    over: Annotated[OverName, typer.Option("--over", help="The limit to vary.")] = OverName.QUALITY,
    points: Annotated[int, typer.Option(min=2, max=200, help="Settings to try.")] = 9,
    report: Annotated[
        Path | None,
        typer.Option("--report", help="Write a self-contained HTML page of plan and curve here."),
    ] = None,
    output: OutputOption = Format.TABLE,
    time_limit: Annotated[
        float, typer.Option(min=0.1, help="Seconds the solver may take, per setting.")
    ] = 30.0,
    gap: Annotated[
        float, typer.Option(min=0.0, help="Stop when proven this near the optimum (fraction).")
    ] = 1e-4,
    yes: YesOption = False,
) -> None:
    """Trace the cost of the cheapest fleet over mean quality, or over a latency target."""
    if report is not None:
        refuse_to_overwrite(report, yes=yes)
    found = _curve(service, over, points, time_limit, gap)
    if report is not None:
        _write_report(service, found, report, time_limit, gap)
    data = found.model_dump(mode="json", exclude_none=True)
    emit(data, output, lambda: _tables(found))


def _curve(service: Path, over: OverName, points: int, time_limit: float, gap: float) -> Pareto:
    from orchestrator.loading import load_service
    from orchestrator.planning import build_problem
    from placement.pareto import pareto as curve

    with steps("tracing the curve") as step:
        problem = build_problem(load_service(service), step)
        return curve(problem, over.value, points, time_limit_s=time_limit, gap=gap, on_step=step)


def _write_report(service: Path, found: Pareto, path: Path, time_limit: float, gap: float) -> None:
    from orchestrator.cli.plan import solved
    from orchestrator.plan_page import page
    from profiler import documents

    plan = solved(service, time_limit=time_limit, gap=gap, plan_again=True)
    documents.write(path, page(plan, (found,)))
    say(f"wrote {path}; open it in a browser")


def _tables(found: Pareto) -> list[RenderableType]:
    from orchestrator.pareto_report import pareto_tables

    console = stdout()
    return list(pareto_tables(found, console.width, console.encoding))


def add_to(group: typer.Typer) -> None:
    """Register the command."""
    group.command()(pareto)
