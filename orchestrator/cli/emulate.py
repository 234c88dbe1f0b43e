"""`emulate`: engines that only keep the time of a profile, in the foreground."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.output import Format, OutputOption, emit, say

if TYPE_CHECKING:
    from rich.table import Table

    from profiler.emulated.engine import EmulatedEngine
    from profiler.emulated.settings import Settings


def emulate(
    plan: Annotated[Path | None, typer.Option(help="Emulate engines of this plan.")] = None,
    group: Annotated[
        str | None, typer.Option(help="One engine of this group; else all of the plan's.")
    ] = None,
    profile: Annotated[
        Path | None, typer.Option(help="Emulate one engine of this profile.")
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Of the first engine, the rest follow; 0: any.")
    ] = 0,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    speed: Annotated[float, typer.Option(min=0.001, help="2: twice as fast as the profile.")] = 1.0,
    output_tokens: Annotated[
        float | None, typer.Option(min=1.0, help="Mean length of answers; else the plan's.")
    ] = None,
    fault: Annotated[
        str | None, typer.Option(help='From the start, as JSON: {"kind": "slow", "factor": 3}.')
    ] = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Run OpenAI-compatible engines that keep a profile's time and answer filler words."""
    from profiler import documents
    from profiler.emulated.asked import Outputs
    from profiler.emulated.engine import EmulatedEngine
    from profiler.emulated.faults import Fault
    from profiler.emulated.running import run_until_told

    changes: dict[str, object] = {"speed": speed}
    if output_tokens is not None:
        changes["outputs"] = Outputs(mean_tokens=output_tokens)
    if fault is not None:
        changes["fault"] = documents.parse(fault, Fault, "--fault")
    chosen = [(name, s.model_copy(update=changes)) for name, s in _settings(plan, group, profile)]
    engines = [
        EmulatedEngine(s, host=host, port=port + i if port else 0)
        for i, (_, s) in enumerate(chosen)
    ]
    names = [name for name, _ in chosen]

    def ready() -> None:
        rows = [_row(name, engine) for name, engine in zip(names, engines, strict=True)]
        emit(rows, output, lambda: [_table(rows)])
        say("emulated: they keep a profile's time, and answer filler words; Ctrl-C ends them")

    run_until_told(engines, ready)


def _settings(
    plan: Path | None, group: str | None, profile: Path | None
) -> list[tuple[str, Settings]]:
    from placement.plan import Plan
    from profiler import documents
    from profiler.core import Profile
    from profiler.emulated.settings import Settings
    from profiler.errors import InputError, UnknownNameError
    from serve_apps.pool import emulated_group

    if (plan is None) == (profile is None):
        raise InputError("expected --plan FILE or --profile FILE, one of them")
    if profile is not None:
        read = documents.read(profile, Profile)
        return [(read.config.key, Settings(profile=read))]
    assert plan is not None
    wanted = documents.read(plan, Plan)
    names = [g.name for g in wanted.groups]
    if group is not None:
        if group not in names:
            raise UnknownNameError("group", group, names)
        return [(group, emulated_group(wanted, wanted.group(group)))]
    return [
        (f"{g.name} {i}" if g.replicas > 1 else g.name, emulated_group(wanted, g))
        for g in wanted.groups
        for i in range(g.replicas)
    ]


def _row(name: str, engine: EmulatedEngine) -> dict[str, str]:
    config = engine.settings.profile.config
    gpus = f"{config.tensor_parallel} x {config.gpu}"
    return {"engine": name, "model": config.model, "gpu": gpus, "url": f"{engine.url}/v1"}


def _table(rows: list[dict[str, str]]) -> Table:
    from rich.table import Table

    table = Table("engine", "model", "GPU", "URL", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row.values())
    return table


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(emulate)
