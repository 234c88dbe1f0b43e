"""`observe`: the metrics there are, and what to give to Prometheus and Grafana."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.output import Format, OutputOption, YesOption, emit, say

if TYPE_CHECKING:
    from rich.table import Table


def render(
    directory: Annotated[Path, typer.Option("--dir", "-d", help="Write the files here.")] = Path(
        "observe"
    ),
    url: Annotated[
        str, typer.Option(help="The pool's address, as Prometheus reaches it.")
    ] = "http://127.0.0.1:8000",
    admin_key_file: Annotated[
        str | None,
        typer.Option(help="File with the pool's admin key, as Prometheus sees it."),
    ] = None,
    yes: YesOption = False,
) -> None:
    """Write Grafana dashboards, Prometheus alert rules and its scrape configuration."""
    from orchestrator.observing import rendered, write

    for path in write(directory, rendered(url, admin_key_file), replace=yes):
        say(f"wrote {path}")


def metrics(output: OutputOption = Format.TABLE) -> None:
    """List every metric of the data plane: name, type, unit, labels, meaning."""
    from serve_apps.seeing.reference import as_data

    emit(as_data(), output, lambda: [_table()])


def _table() -> Table:
    from rich.table import Table
    from rich.text import Text

    from serve_apps.seeing.reference import as_data

    table = Table("metric", "type", "labels", "what", box=None, pad_edge=False)
    for m in as_data():
        table.add_row(m["name"], m["kind"], ", ".join(m["labels"]) or "-", Text(m["help"]))
    return table


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    group = typer.Typer(help="Dashboards, alerts and metrics.", no_args_is_help=True)
    group.command()(render)
    group.command()(metrics)
    app.add_typer(group, name="observe")
