"""`deploy`, `status` and `delete`: a plan on this machine."""

from __future__ import annotations

import typer


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
