"""`init`, `validate` and `schema`: the service file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.output import say


def init(
    path: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("service.yaml"),
    local: Annotated[
        bool, typer.Option("--local", help="A small model on this machine's CPU.")
    ] = False,
) -> None:
    """Write a commented service file to start from."""
    from importlib.resources import files

    from profiler import documents
    from profiler.errors import InputError

    if path.exists():
        raise InputError(f"{path} exists already; name another file or move it away")
    template = "data/local.yaml" if local else "data/service.yaml"
    documents.write(path, files("orchestrator").joinpath(template).read_text())
    say(f"wrote {path}; next: orchestrator plan {path}")


def validate(
    path: Annotated[Path, typer.Argument(help="The service file.")],
) -> None:
    """Check a service file, its catalogs, profiles and traces, without touching a network."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # hub names are looked up in the local cache alone
    from orchestrator.loading import load_service
    from orchestrator.planning import workloads

    loaded = load_service(path)
    for stream, workload in workloads(loaded).items():
        say(
            f"{stream}: {workload.mean_rate_rps:.3g} requests/s on average, planned for "
            f"{workload.planned_rate_rps:.3g}, in {len(workload.rates)} size buckets"
        )
    typer.echo(f"{path}: valid")


def schema() -> None:
    """Print the JSON Schema of the service file, for editors."""
    import json

    from orchestrator.service import Service

    typer.echo(json.dumps(Service.model_json_schema(), indent=2))


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(init)
    app.command()(validate)
    app.command()(schema)
