"""`demo`: from a trace to tokens on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.output import stdout, steps

REPORT = Path("demo-report.html")


def demo(
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port of the pool; a free one if not given."),
    ] = None,
    report: Annotated[
        Path, typer.Option(help="HTML page about the burst; numbered where there is one already.")
    ] = REPORT,
    quick: Annotated[
        bool, typer.Option("--quick", help="Measure and send for about half as long.")
    ] = False,
    profile: Annotated[
        Path | None,
        typer.Option(help="Profile of the demo's engine on this machine, instead of measuring."),
    ] = None,
) -> None:
    """Plan a cloud fleet, profile this machine, deploy a small model here, send it a burst.

    Then send three times its load to an emulated fleet, which sheds and scales.
    """
    from orchestrator.demo import QUICK, Pace, run_demo
    from orchestrator.deploy import preflight
    from profiler.engine import free_port

    preflight.check_installed()
    pace = QUICK if quick else Pace()
    run_demo(stdout(), steps, port or free_port(), report, pace, profile)


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(demo)
