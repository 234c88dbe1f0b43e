"""`deploy`, `status` and `delete`: a plan on this machine."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.output import Format, OutputOption, YesOption, confirm, emit, say, stderr

if TYPE_CHECKING:
    from rich.table import Table

    from orchestrator.deploy.base import GroupStatus, Progress, Status


class TargetName(enum.StrEnum):
    """Where a plan can be put."""

    LOCAL = "local"


TargetOption = Annotated[TargetName, typer.Option("--target", "-t", help="Where to put it.")]
NameArgument = Annotated[str, typer.Argument(help="The service's name.")]


def deploy(
    plan: Annotated[Path, typer.Argument(help="The plan file.")],
    target: TargetOption = TargetName.LOCAL,  # noqa: ARG001
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Of the OpenAI API; the plan's otherwise.")
    ] = None,
    wait: Annotated[float, typer.Option(min=1.0, help="Seconds to wait until healthy.")] = 900.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change; change nothing.")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave what runs when the deployment fails.")
    ] = False,
    emulate: Annotated[
        bool,
        typer.Option("--emulate", help="No GPUs: engines that only keep the profiles' time."),
    ] = False,
    autoscale: Annotated[
        bool,
        typer.Option(
            "--autoscale", help="Let the pool change its replicas by itself, as its load asks for."
        ),
    ] = False,
    yes: YesOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Run a plan's engines on this machine behind one OpenAI-compatible address."""
    from orchestrator.deploy.base import AutoscaleSettings
    from orchestrator.deploy.local import deploy_local, local_status, running_plan
    from orchestrator.learned_router import checked_artefact
    from orchestrator.report import plan_changes, router_line
    from placement.plan import Plan
    from profiler import documents
    from profiler.errors import ClusterError

    wanted = documents.read(plan, Plan)
    artefact = checked_artefact(wanted, plan.parent)
    current = running_plan(wanted.service)
    changes = plan_changes(current, wanted)
    for line in changes:
        say(line)
    now = local_status(wanted.service)
    switches = current is not None and now is not None and now.emulated != emulate
    if switches:
        say(f"engines: {'real' if emulate else 'emulated'} -> {'emulated' if emulate else 'real'}")
    if wanted.router is not None:
        say(f"{router_line(wanted.router)}; from {artefact}")
    if dry_run:
        say("dry run: nothing was changed")
        return
    replaces = current is not None and (current != wanted or switches)
    if replaces and not confirm(f"Change the running {wanted.service!r}?", yes=yes):
        raise ClusterError("nothing was changed")
    with progress() as show:
        status = deploy_local(
            wanted,
            port=port or wanted.targets.local.port,
            wait_s=wait,
            on_progress=show,
            keep_on_failure=keep,
            artefact=artefact,
            emulate=emulate,
            autoscale=AutoscaleSettings() if autoscale else None,
        )
    say(status.message or f"running; stop it with: orchestrator delete {wanted.service}")
    emit(status.model_dump(mode="json"), output, lambda: [status_table(status)])


def status(name: NameArgument, output: OutputOption = Format.TABLE) -> None:
    """Show a deployed service: each group's wanted and ready replicas, address, logs."""
    from orchestrator.deploy.local import local_status
    from profiler.errors import InputError

    found = local_status(name)
    if found is None:
        raise InputError(f"no service {name!r} runs on this machine")
    emit(found.model_dump(mode="json"), output, lambda: [status_table(found)])


def delete(name: NameArgument, yes: YesOption = False) -> None:
    """Stop a deployed service and everything it started."""
    from orchestrator.deploy.local import delete_local, local_status
    from profiler.errors import ClusterError

    running = local_status(name) is not None
    if running and not confirm(f"Stop {name!r} and all its engines?", yes=yes):
        raise ClusterError("nothing was changed")
    with progress() as show:
        existed = delete_local(name, show)
    say(f"{name!r} is gone" if existed else f"no service {name!r} runs on this machine")


@contextmanager
def progress() -> Iterator[Progress]:
    """Show how a deployment comes along: a live line on a terminal, else a line per change."""
    from orchestrator.report import status_line

    console = stderr()
    if not console.is_terminal:
        said: set[str] = set()

        def once(status: Status) -> None:
            line = status_line(status)
            if line not in said:
                said.add(line)
                say(line)

        yield once
        return
    with console.status("starting") as spinner:
        yield lambda status: spinner.update(status_line(status))


def status_table(status: Status) -> Table:
    """A pool's groups, under its address."""
    from rich.table import Table

    from orchestrator.report import emulated_mark

    table = Table(
        "group",
        "model",
        "GPU",
        "ready",
        "state",
        "log",
        box=None,
        pad_edge=False,
        title=f"{status.name}: {status.state}{emulated_mark(status)} at {status.url}"
        + (", autoscaled" if status.autoscaled else ""),
        caption=status.router or None,
        caption_justify="left",
        title_justify="left",
    )
    for g in status.groups:
        table.add_row(g.name, g.model, g.gpu, _replicas(g), g.state, g.log or "-")
    return table


def _replicas(group: GroupStatus) -> str:
    """Ready of wanted, and what else there is to say of them."""
    more = [] if group.planned is None else [f"planned {group.planned}"]
    more += [f"{group.draining} draining"] if group.draining else []
    return f"{group.ready}/{group.wanted}" + (f" ({', '.join(more)})" if more else "")


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(deploy)
    app.command()(status)
    app.command()(delete)
