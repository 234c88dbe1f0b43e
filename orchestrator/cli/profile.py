"""`profile`: what a GPU type can do for a model, measured or computed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.catalog import FileOption
from orchestrator.cli.output import Format, OutputOption, YesOption, emit, say, steps

if TYPE_CHECKING:
    from rich.console import RenderableType

    from profiler.core import EngineOptions, GpuType, ModelSpec, Profile


def profile(
    model: Annotated[str, typer.Argument(help="Catalog name, hub name, or a config.json.")],
    gpu: Annotated[str, typer.Option(help="GPU type the engine runs on.")] = "cpu",
    tensor_parallel: Annotated[int, typer.Option("--tensor-parallel", "--tp", min=1)] = 1,
    url: Annotated[
        str | None, typer.Option(help="Measure the engine at this URL instead of starting one.")
    ] = None,
    roofline: Annotated[
        bool, typer.Option("--roofline", help="Compute it from catalog numbers; measure nothing.")
    ] = False,
    budget_minutes: Annotated[float, typer.Option(min=0.1, help="How long to measure.")] = 1.0,
    max_model_len: Annotated[int | None, typer.Option(min=64, help="Longest sequence.")] = None,
    max_num_seqs: Annotated[int | None, typer.Option(min=1, help="Largest batch.")] = None,
    catalog: FileOption = None,
    save: Annotated[
        Path | None, typer.Option("--save", "-s", help="Write the profile here, for a service.")
    ] = None,
    output: OutputOption = Format.TABLE,
    yes: YesOption = False,
) -> None:
    """Measure an engine's step-time law, KV capacity and limits; or compute them."""
    from orchestrator.cli.plan import refuse_to_overwrite
    from orchestrator.planning import engine_options
    from orchestrator.service import EngineLimits
    from profiler import documents
    from profiler.catalog import load_catalog, resolve_model

    if save is not None:
        refuse_to_overwrite(save, yes=yes)
    known = load_catalog(*(catalog or []))
    spec, on = resolve_model(known, model), known.gpu(gpu)
    engine = engine_options(
        EngineLimits(max_model_len=max_model_len, max_num_seqs=max_num_seqs), on
    )
    if roofline:
        found = _computed(spec, on, tensor_parallel, engine)
    else:
        found = _measured(spec, on, tensor_parallel, engine, url, budget_minutes * 60)
    if save is not None:
        documents.write(save, documents.dump(found))
        say(f"wrote {save}; name it under `profiles:` in a service file")
    emit(found.model_dump(mode="json", exclude_none=True), output, lambda: [_table(found)])


def _computed(spec: ModelSpec, on: GpuType, size: int, engine: EngineOptions) -> Profile:
    from profiler.errors import InfeasibleError
    from profiler.roofline import DoesNotFit, roofline_profile

    found = roofline_profile(spec, on, size, engine)
    if isinstance(found, DoesNotFit):
        raise InfeasibleError(f"{spec.name} {found.reason}; try a larger --tensor-parallel")
    return found


def _measured(
    spec: ModelSpec, on: GpuType, size: int, engine: EngineOptions, url: str | None, budget_s: float
) -> Profile:
    from orchestrator.profiling import profile_at, profile_here
    from profiler.core import ReplicaConfig

    config = ReplicaConfig(model=spec.name, gpu=on.name, tensor_parallel=size, engine=engine)
    with steps(f"profiling {config.key}") as step:
        if url is not None:
            return profile_at(url, config, budget_s=budget_s, on_step=step).profile
        return profile_here(spec, on, config, budget_s=budget_s, on_step=step).profile


def _table(found: Profile) -> RenderableType:
    from rich.table import Table

    from orchestrator.profiling import describe

    table = Table.grid(padding=(0, 2))
    for label, value in describe(found):
        table.add_row(label, value)
    return table


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(profile)
