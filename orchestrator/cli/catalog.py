"""`catalog gpus` and `catalog models`: what is known of what can be rented and served."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.output import Format, OutputOption, emit, usd

if TYPE_CHECKING:
    from rich.table import Table

    from profiler.core import GpuType, ModelSpec

FileOption = Annotated[
    list[Path] | None, typer.Option("--catalog", "-c", help="Your own catalog file; repeatable.")
]


def gpus(catalog: FileOption = None, output: OutputOption = Format.TABLE) -> None:
    """GPU types: memory, bandwidth, compute, prices with their source."""
    from profiler.catalog import load_catalog

    found = list(load_catalog(*(catalog or [])).gpus.values())
    emit([g.model_dump(mode="json") for g in found], output, lambda: [_gpu_table(found)])


def models(catalog: FileOption = None, output: OutputOption = Format.TABLE) -> None:
    """Models: size, layers, context, and what a token of KV cache takes."""
    from profiler.catalog import load_catalog

    found = list(load_catalog(*(catalog or [])).models.values())
    emit([m.model_dump(mode="json") for m in found], output, lambda: [_model_table(found)])


def _gpu_table(gpus: Sequence[GpuType]) -> Table:
    from rich.table import Table

    table = Table("GPU", box=None, pad_edge=False)
    for header in ("memory GB", "GB/s", "TFLOP/s", "$/h", "spot $/h"):
        table.add_column(header, justify="right")
    table.add_column("link")
    table.add_column("price as of")
    table.add_column("source", overflow="fold")
    for g in gpus:
        link = f"{g.link} {g.link_gb_per_s:g} GB/s" if g.link_gb_per_s else g.link
        table.add_row(
            g.name,
            f"{g.memory_gb:g}",
            f"{g.bandwidth_gb_per_s:g}",
            f"{g.fp16_tflop_per_s:g}",
            usd(g.price.on_demand_usd_per_hour, 3),
            usd(g.price.spot_usd_per_hour, 3),
            link,
            g.price.as_of.isoformat(),
            g.price.source,
        )
    return table


def _model_table(models: Sequence[ModelSpec]) -> Table:
    from rich.table import Table

    table = Table("model", box=None, pad_edge=False)
    for header in ("params B", "active B", "layers", "context", "KV KB/token", "weights GB"):
        table.add_column(header, justify="right")
    table.add_column("weights from")
    for m in models:
        table.add_row(
            m.name,
            f"{m.total_params / 1e9:.2f}",
            f"{m.active_params / 1e9:.2f}",
            str(m.layers),
            str(m.context_tokens),
            f"{m.kv_bytes_per_token / 1e3:.0f}",
            f"{m.weight_bytes / 1e9:.1f} {m.weight_dtype}",
            m.weights,
        )
    return table


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    group = typer.Typer(no_args_is_help=True)
    group.command()(gpus)
    group.command()(models)
    app.add_typer(group, name="catalog", help="Show known GPU types and models.")
