"""`explain scale`: why the fleet was made larger or smaller."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.output import Format, OutputOption, emit

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from orchestrator.autoscale.decisions import ReplanDecision, ScaleDecision


def scale(
    journal: Annotated[
        Path,
        typer.Argument(
            help="A journal that `autoscale` wrote, or the name of a service on this machine that "
            "was deployed with --autoscale."
        ),
    ],
    group: Annotated[str | None, typer.Option(help="Only this group.")] = None,
    last: Annotated[int, typer.Option("--last", "-n", min=1, help="The last so many.")] = 20,
    output: OutputOption = Format.TABLE,
) -> None:
    """Why replicas were started and stopped, the latest last."""
    from dataclasses import asdict

    from orchestrator.autoscale.decisions import read_journal, read_replans
    from orchestrator.deploy.state import StateDir

    if not journal.exists() and journal.name == str(journal):
        own = StateDir(journal.name).scaling_journal
        journal = own if own.exists() else journal
    found = [d for d in read_journal(journal) if group in (None, d.group)][-last:]
    plans = [] if group else read_replans(journal)[-last:]
    both: list[ScaleDecision | ReplanDecision] = [*found, *plans]
    data = [asdict(d) for d in sorted(both, key=lambda d: d.time_s)]
    emit(data, output, lambda: [_table(found), *(_sentence(p) for p in plans)])


def _sentence(plan: ReplanDecision) -> Text:
    import datetime as dt

    from rich.text import Text

    at = dt.datetime.fromtimestamp(plan.time_s, dt.UTC)
    return Text(f"{at:%m-%d %H:%M:%S}  {plan.line()}")


def _table(decisions: list[ScaleDecision]) -> Table:
    import datetime as dt

    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("time (UTC)", "group", "replicas", "why"):
        table.add_column(name)
    for name in ("ahead/s", "1 in 20/s", "rent $", "misses $", "over min", "fleet $/h"):
        table.add_column(name, justify="right")
    for d in decisions:
        at = dt.datetime.fromtimestamp(d.time_s, dt.UTC)
        table.add_row(
            f"{at:%m-%d %H:%M:%S}",
            d.group,
            f"{d.before} -> {d.after}",
            d.reason,
            f"{d.forecast_rps:.2f}",
            f"{d.high_rps:.2f}",
            f"{d.rent_usd:+.3f}",
            f"{d.miss_usd:+.3f}",
            f"{d.horizon_s / 60:.0f}",
            f"{d.usd_per_hour:.2f}",
        )
    return table


def add_to(group: typer.Typer) -> None:
    """Register the command in the group `explain`."""
    group.command()(scale)
