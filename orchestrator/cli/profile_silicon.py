"""`profile lookup` and `profile calibrate`: the database of measured kernels and published runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.catalog import FileOption
from orchestrator.cli.output import Format, OutputOption, YesOption, emit, say, steps

if TYPE_CHECKING:
    from rich.console import RenderableType

    from profiler.efficiency import Calibration


def lookup(
    model: Annotated[str, typer.Argument(help="Catalog name, hub name, or a config.json.")],
    gpu: Annotated[str, typer.Option(help="GPU type to look up.")],
    tensor_parallel: Annotated[int, typer.Option("--tensor-parallel", "--tp", min=1)] = 1,
    max_model_len: Annotated[int | None, typer.Option(min=64, help="Longest sequence.")] = None,
    max_num_seqs: Annotated[int | None, typer.Option(min=1, help="Largest batch.")] = None,
    catalog: FileOption = None,
    save: Annotated[
        Path | None, typer.Option("--save", "-s", help="Write the profile here, for a service.")
    ] = None,
    output: OutputOption = Format.TABLE,
    yes: YesOption = False,
) -> None:
    """Look a profile up in a database of measured kernels (needs the extra `silicon`)."""
    from orchestrator.cli import profile as group
    from orchestrator.cli.output import refuse_to_overwrite
    from profiler.errors import InfeasibleError, InputError
    from profiler.roofline import DoesNotFit
    from profiler.silicon import NoData, silicon_profile

    if save is not None:
        refuse_to_overwrite(save, yes=yes)
    spec, on, config = group.replica_config(
        model, gpu, tensor_parallel, max_model_len, max_num_seqs, catalog
    )
    with steps(f"looking {config.key} up"):
        found = silicon_profile(spec, on, tensor_parallel, config.engine)
    if isinstance(found, DoesNotFit):
        raise InfeasibleError(f"{spec.name} {found.reason}; try a larger --tensor-parallel")
    if isinstance(found, NoData):
        raise InputError(f"{found.reason}; `profile compute` estimates any model on any GPU")
    group.finish(found, save, output)


def calibrate(
    save: Annotated[
        Path | None, typer.Option("--save", "-s", help="Write the fitted figures here (YAML).")
    ] = None,
    output: OutputOption = Format.TABLE,
    yes: YesOption = False,
) -> None:
    """Refit the roofline to published runs (needs the extra `silicon`): shares and their errors."""
    import datetime as dt

    from orchestrator.cli.output import refuse_to_overwrite
    from profiler import documents
    from profiler.calibration import calibrate as refit

    if save is not None:
        refuse_to_overwrite(save, yes=yes)
    with steps("fitting the roofline to published runs"):
        found = refit(dt.datetime.now(tz=dt.UTC).date())
    if save is not None:
        documents.write(save, documents.dump(found))
        say(f"wrote {save}")
    emit(found.model_dump(mode="json", exclude_none=True), output, lambda: [_table(found)])


def _table(found: Calibration) -> RenderableType:
    from rich.table import Table

    table = Table("generation", "FLOP/s", "bandwidth", "TPOT", "TTFT", "throughput", "runs")
    for name, generation in found.generations.items():
        share, off = generation.efficiency, generation.held_out
        errors = (f"{off.tpot:.0%}", f"{off.ttft:.0%}", f"{off.throughput:.0%}") if off else ()
        table.add_row(
            name,
            f"{share.compute:.0%}",
            f"{share.bandwidth:.0%}",
            *(errors or ("-", "-", "-")),
            str(off.rows) if off else "-",
        )
    table.caption = "median errors on runs that the figures were not fitted to"
    return table


def add_to(group: typer.Typer) -> None:
    """Register the commands in the group `profile`."""
    group.command()(lookup)
    group.command()(calibrate)
