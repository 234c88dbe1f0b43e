"""`profile measure` and `profile compute`: what a GPU type can do for a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import profile_silicon
from orchestrator.cli.catalog import FileOption
from orchestrator.cli.output import Format, OutputOption, YesOption, emit, say, steps

if TYPE_CHECKING:
    from rich.console import RenderableType

    from profiler.core import GpuType, ModelSpec, Profile, ReplicaConfig

ModelArgument = Annotated[str, typer.Argument(help="Catalog name, hub name, or a config.json.")]
SizeOption = Annotated[int, typer.Option("--tensor-parallel", "--tp", min=1)]
LengthOption = Annotated[int | None, typer.Option(min=64, help="Longest sequence.")]
SeqsOption = Annotated[int | None, typer.Option(min=1, help="Largest batch.")]
SaveOption = Annotated[
    Path | None, typer.Option("--save", "-s", help="Write the profile here, for a service.")
]


def measure(
    model: ModelArgument,
    gpu: Annotated[str, typer.Option(help="GPU type the engine runs on.")] = "cpu",
    tensor_parallel: SizeOption = 1,
    url: Annotated[
        str | None, typer.Option(help="Measure the engine at this URL instead of starting one.")
    ] = None,
    budget_minutes: Annotated[float, typer.Option(min=0.1, help="How long to measure.")] = 1.0,
    max_model_len: LengthOption = None,
    max_num_seqs: SeqsOption = None,
    catalog: FileOption = None,
    save: SaveOption = None,
    output: OutputOption = Format.TABLE,
    yes: YesOption = False,
) -> None:
    """Measure a real engine: its step-time law, KV capacity and limits."""
    from orchestrator.cli.plan import refuse_to_overwrite
    from orchestrator.profiling import profile_at, profile_here

    if save is not None:
        refuse_to_overwrite(save, yes=yes)
    spec, on, config = replica_config(
        model, gpu, tensor_parallel, max_model_len, max_num_seqs, catalog
    )
    budget_s = budget_minutes * 60
    with steps(f"profiling {config.key}") as step:
        if url is not None:
            found = profile_at(url, config, budget_s=budget_s, on_step=step)
        else:
            found = profile_here(spec, on, config, budget_s=budget_s, on_step=step)
    finish(found.profile, save, output)


def compute(
    model: ModelArgument,
    gpu: Annotated[str, typer.Option(help="GPU type to compute it for.")],
    tensor_parallel: SizeOption = 1,
    max_model_len: LengthOption = None,
    max_num_seqs: SeqsOption = None,
    catalog: FileOption = None,
    save: SaveOption = None,
    output: OutputOption = Format.TABLE,
    yes: YesOption = False,
) -> None:
    """Compute a profile from catalog numbers (a roofline); an estimate, and labelled so."""
    from orchestrator.cli.plan import refuse_to_overwrite
    from profiler.errors import InfeasibleError
    from profiler.roofline import DoesNotFit, roofline_profile

    if save is not None:
        refuse_to_overwrite(save, yes=yes)
    spec, on, config = replica_config(
        model, gpu, tensor_parallel, max_model_len, max_num_seqs, catalog
    )
    found = roofline_profile(spec, on, tensor_parallel, config.engine)
    if isinstance(found, DoesNotFit):
        raise InfeasibleError(f"{spec.name} {found.reason}; try a larger --tensor-parallel")
    finish(found, save, output)


def replica_config(
    model: str,
    gpu: str,
    size: int,
    max_model_len: int | None,
    max_num_seqs: int | None,
    catalog: list[Path] | None,
) -> tuple[ModelSpec, GpuType, ReplicaConfig]:
    """The model, GPU type and replica config that a command's options name."""
    from orchestrator.planning import engine_options
    from orchestrator.service import EngineLimits
    from profiler.catalog import load_catalog, resolve_model
    from profiler.core import ReplicaConfig

    known = load_catalog(*(catalog or []))
    spec, on = resolve_model(known, model), known.gpu(gpu)
    limits = EngineLimits(max_model_len=max_model_len, max_num_seqs=max_num_seqs)
    engine = engine_options(limits, on)
    config = ReplicaConfig(model=spec.name, gpu=on.name, tensor_parallel=size, engine=engine)
    return spec, on, config


def finish(found: Profile, save: Path | None, output: Format) -> None:
    """Save a profile where asked to, and print it."""
    from profiler import documents

    if save is not None:
        documents.write(save, documents.dump(found))
        say(f"wrote {save}; name it under `profiles:` in a service file")
    emit(found.model_dump(mode="json", exclude_none=True), output, lambda: [_table(found)])


def _table(found: Profile) -> RenderableType:
    from rich.table import Table

    from orchestrator.profiling import describe

    table = Table.grid(padding=(0, 2))
    for label, value in describe(found):
        table.add_row(label, value)
    return table


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    group = typer.Typer(no_args_is_help=True)
    group.command()(measure)
    group.command()(compute)
    profile_silicon.add_to(group)
    app.add_typer(group, name="profile", help="Measure or compute what a GPU does for a model.")
