"""`demo`: from a trace to tokens on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.output import stdout, steps


def demo(
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port of the pool; a free one if not given."),
    ] = None,
) -> None:
    """Plan a cloud fleet, profile this machine, deploy a small model here, send it a burst."""
    from orchestrator.demo import run_demo
    from orchestrator.deploy import preflight
    from profiler.engine import free_port

    preflight.check_installed()
    run_demo(stdout(), steps, port or free_port())


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(demo)
