"""`plan`: the cheapest fleet for a service, why it is that, and how it differs from another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import plan_diff, plan_pareto
from orchestrator.cli.default_command import DEFAULT, AsItsGroup, WithDefault
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

    from placement.plan import Plan

TimeLimitOption = Annotated[
    float, typer.Option(min=0.1, help="Seconds the solver may take, per fleet compared.")
]
GapOption = Annotated[
    float, typer.Option(min=0.0, help="Stop when proven this near the optimum (fraction).")
]
VerifyOption = Annotated[
    bool,
    typer.Option(
        "--verify/--no-verify",
        help="Try the plan on its traffic in simulation, and make it hold there.",
    ),
]
HELP = "The cheapest fleet for a service; `plan pareto` trades cost for quality or latency."


def plan(
    service: Annotated[Path, typer.Argument(help="The service file.")],
    save: Annotated[
        Path | None, typer.Option("--save", "-s", help="Write the plan file here.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="All reasons; plans again with each limit moved.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option("--report", help="Write a self-contained HTML page here.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option("--against", help="Show the difference from a plan file, or from `running`."),
    ] = None,
    verify: VerifyOption = True,
    check: Annotated[
        bool, typer.Option("--check", help="Exit with code 5 where the plan tried does not hold.")
    ] = False,
    output: OutputOption = Format.TABLE,
    time_limit: TimeLimitOption = 30.0,
    gap: GapOption = 1e-4,
    yes: YesOption = False,
) -> None:
    """Find the cheapest mix of GPUs that serves the traffic inside the latency targets."""
    if check and not verify:
        raise typer.BadParameter("--check needs a plan that is tried; remove --no-verify")
    from profiler import documents

    for path in (save, report):
        if path is not None:
            refuse_to_overwrite(path, yes=yes)
    before = None if against is None else plan_diff.earlier(against, service)
    found = solved(
        service,
        time_limit=time_limit,
        gap=gap,
        plan_again=explain or report is not None,
        try_it=verify,
    )
    place = save.parent if save is not None else Path()
    if found.router is not None:
        from orchestrator.learned_router import located

        found = located(found, place)
    if found.gateway:
        from serve_apps.gateway_settings import gateway_of, with_gateway

        found = with_gateway(found, gateway_of(found).beside(place))
    if save is not None:
        documents.write(save, documents.dump(found))
    if report is not None:
        _write_report(found, report)

    data = found.model_dump(mode="json", exclude_none=True)
    emit(data, output, lambda: _tables(found, before, explain=explain))
    if before is not None and output is not Format.TABLE:
        plan_diff.narrate(before, found)
    if report is not None:
        say(f"wrote {report}; open it in a browser")
    if save is not None:
        say(f"wrote {save}; next: orchestrator deploy {save}")
    _complain(found, check=check)


def _complain(found: Plan, *, check: bool) -> None:
    """Say that a plan does not hold, after it has been printed and saved.

    Raises:
        SloMissedError: asked to check, and it does not.
    """
    from orchestrator.verification_report import missed_line
    from profiler.errors import SloMissedError

    record = found.verification
    if record is None and check:
        raise SloMissedError("the plan was not tried in simulation")
    if record is None or record.holds:
        return
    message = f"{missed_line(record)}; {record.note or 'no plan tried holds'}"
    if check:
        raise SloMissedError(message)
    say(f"warning: {message}")


def solved(
    service: Path, *, time_limit: float, gap: float, plan_again: bool, try_it: bool = False
) -> Plan:
    """The plan of a service file, with narration while it is found, and tried where asked to."""
    from orchestrator.loading import load_service
    from orchestrator.planning import build_problem, traces_of
    from placement.planner import make_plan
    from placement.solver import TimeLimitError
    from serve_apps.gateway_settings import with_gateway

    with steps("planning") as step:
        loaded = load_service(service)
        name = loaded.service.name
        traces = traces_of(loaded, step)
        problem = build_problem(loaded, step, traces)
        verified = None
        if try_it:
            from orchestrator.traffic import TooFastError, traffic_of
            from orchestrator.verifying import verify

            try:
                traffic = traffic_of(loaded, traces)
                verified = verify(
                    problem, name, traffic, solver_limit_s=time_limit, gap=gap, on_step=step
                )
            except TooFastError as error:
                say(f"warning: not tried in simulation: {error}")
            except TimeLimitError:  # planned without trying below, from what there is
                say("warning: not tried in simulation, for lack of time; raise --time-limit")
        plan = make_plan(
            problem,
            name,
            targets=loaded.service.targets,
            time_limit_s=time_limit,
            gap=gap,
            on_step=step,
            plan_again=plan_again,
            found=verified.mix if verified else None,
        )
        plan = with_gateway(plan, loaded.service.gateway.at(loaded.directory))
        return verified.stamp(plan) if verified else plan


def _tables(found: Plan, before: Plan | None, *, explain: bool) -> list[RenderableType]:
    from rich.text import Text

    from orchestrator import explain_report
    from orchestrator.report import plan_tables

    reasons = explain_report.full(found) if explain else explain_report.brief(found)
    parts = [*plan_tables(found, stdout().width), Text(), *reasons]
    if before is not None:
        parts += [Text(), *plan_diff.tables(before, found)]
    return parts


def _write_report(found: Plan, path: Path) -> None:
    from orchestrator.plan_page import page
    from profiler import documents

    documents.write(path, page(found))


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    group = typer.Typer(cls=WithDefault)
    also = "See also: orchestrator plan pareto --help, orchestrator plan diff --help"
    group.command(DEFAULT, cls=AsItsGroup, hidden=True, epilog=also)(plan)
    plan_pareto.add_to(group)
    plan_diff.add_to(group)
    app.add_typer(group, name="plan", help=HELP)
