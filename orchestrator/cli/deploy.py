"""`deploy`, `status` and `delete`: a plan on this machine."""

from __future__ import annotations

import enum
from typing import Annotated

import typer


class TargetName(enum.StrEnum):
    """Where a plan can be put."""

    LOCAL = "local"


TargetOption = Annotated[TargetName, typer.Option("--target", "-t", help="Where to put it.")]
NameArgument = Annotated[str, typer.Argument(help="The service's name.")]
