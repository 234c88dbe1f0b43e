"""`router`: train, calibrate, judge, explain and extend a learned router."""

from __future__ import annotations

import typer

from orchestrator.cli import (
    router_calibrate,
    router_eval,
    router_explain,
    router_onboard,
    router_train,
    router_train_load,
)


def add_to(app: typer.Typer) -> None:
    """Register the group."""
    group = typer.Typer(
        help="Learn which model of a pool will do for a prompt, from graded answers.",
        no_args_is_help=True,
    )
    for command in (
        router_train,
        router_train_load,
        router_calibrate,
        router_eval,
        router_explain,
        router_onboard,
    ):
        command.add_to(group)
    app.add_typer(group, name="router")
