"""`profile measure` and `profile compute`: what a GPU type can do for a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import profile_import, profile_quality, profile_silicon, profile_value
from orchestrator.cli.catalog import FileOption
from orchestrator.cli.output import (
    Format,
    OutputOption,
    YesOption,
    emit,
    refuse_to_overwrite,
    say,
    steps,
)

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
    gpu: Annotated[
        str | None, typer.Option(help="GPU type the engine runs on; this machine's by default.")
    ] = None,
    tensor_parallel: SizeOption = 1,
    url: Annotated[
        str | None, typer.Option(help="Measure the engine at this URL instead of starting one.")
    ] = None,
    budget_minutes: Annotated[float, typer.Option(min=0.1, help="How long to measure.")] = 1.0,
    max_model_len: LengthOption = None,
    max_num_seqs: SeqsOption = None,
    points: Annotated[
        Path | None,
        typer.Option(help="Keep each point here and resume from it; default: beside --save."),
    ] = None,
    saturation: Annotated[
        list[str] | None,
        typer.Option(help="Measure the highest rate of this size, such as 256+64; repeatable."),
    ] = None,
    ttft: Annotated[float, typer.Option(min=0.001, help="For --saturation, seconds.")] = 2.0,
    tpot: Annotated[float, typer.Option(min=0.0001, help="For --saturation, seconds.")] = 0.1,
    catalog: FileOption = None,
    save: SaveOption = None,
    output: OutputOption = Format.TABLE,
    yes: YesOption = False,
) -> None:
    """Measure a real engine: its step-time law, KV capacity, limits and, if asked, its rates."""
    from orchestrator.profiling import Saturation, profile_at, profile_here
    from profiler.core import Slo

    if save is not None:
        refuse_to_overwrite(save, yes=yes)
    sizes = tuple(_size(text) for text in saturation or ())
    wanted = Saturation(sizes, Slo(ttft_s=ttft, tpot_s=tpot)) if sizes else None
    kept = points or _points_beside(save)
    spec, on, config = replica_config(
        model, gpu or _found_gpu(), tensor_parallel, max_model_len, max_num_seqs, catalog
    )
    budget_s = budget_minutes * 60
    with steps(f"profiling {config.key}") as step:
        if url is not None:
            found = profile_at(
                url,
                config,
                budget_s=budget_s,
                points=kept,
                saturation=wanted,
                on_step=step,
                on_note=say,
            )
        else:
            found = profile_here(
                spec,
                on,
                config,
                budget_s=budget_s,
                points=kept,
                saturation=wanted,
                on_step=step,
                on_note=say,
            )
    finish(found.profile, save, output)


def _size(text: str) -> tuple[int, int]:
    """Input and output tokens from text such as ``256+64``."""
    from profiler.errors import InputError

    parts = text.split("+")
    if len(parts) != 2 or not all(p.isdigit() and int(p) > 0 for p in parts):
        raise InputError(
            f"--saturation: found {text!r}, expected input+output tokens such as 256+64"
        )
    return int(parts[0]), int(parts[1])


def _points_beside(save: Path | None) -> Path | None:
    """Where points go by default: beside the profile, if they can be written at all."""
    from profiler.points import available

    if save is None:
        return None
    if not available():
        say("pyarrow is not installed, so an interrupted profile cannot resume")
        return None
    return save.with_suffix(".points.parquet")


def _found_gpu() -> str:
    """The catalog name of this machine's GPU, or its CPU; says which, and why."""
    from profiler.errors import InputError
    from profiler.hardware import find_hardware

    found = find_hardware()
    if not found.gpus:
        say(f"{found.note}; profiling the CPU ({found.cpu.name}, {found.cpu.cores} cores)")
        return "cpu"
    first = found.gpus[0]
    if first.gpu_type is None:
        raise InputError(
            f"found {first.name}, which the catalog does not know; name a type with --gpu, after "
            "adding it to a --catalog file"
        )
    say(f"found {len(found.gpus)} x {first.name}: profiling {first.gpu_type}")
    return first.gpu_type


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
    from orchestrator.loading import engine_options
    from orchestrator.service import EngineLimits
    from profiler.catalog import load_catalog, resolve_model
    from profiler.core import ReplicaConfig
    from profiler.errors import InputError

    known = load_catalog(*(catalog or []))
    spec, on = resolve_model(known, model), known.gpu(gpu)
    if size > on.max_per_node:
        raise InputError(f"--tensor-parallel {size}: a node holds {on.max_per_node} x {on.name}")
    if not spec.splits_into(size):
        raise InputError(f"--tensor-parallel {size}: {spec.name} does not split into so many parts")
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
    profile_import.add_to(group)
    profile_value.add_to(group)
    profile_quality.add_to(group)
    profile_silicon.add_to(group)
    app.add_typer(group, name="profile", help="Measure or compute what a GPU does for a model.")
