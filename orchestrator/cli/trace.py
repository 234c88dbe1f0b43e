"""`trace generate` and `trace show`: request traces."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.output import Format, OutputOption, YesOption, emit, refuse_to_overwrite, say

if TYPE_CHECKING:
    from rich.console import RenderableType

    from profiler.core import Workload
    from profiler.traces import Trace


class TraceFormat(enum.StrEnum):
    """The formats of `profiler.trace_formats`."""

    AUTO = "auto"
    OWN = "own"
    AZURE = "azure"
    MOONCAKE = "mooncake"


def generate(
    service: Annotated[
        Path, typer.Argument(help="A service file whose workload names arrivals and sizes.")
    ],
    out: Annotated[Path, typer.Argument(help="CSV to write; .gz compresses it.")],
    stream: Annotated[str, typer.Option(help="'auto', or a model with its own workload.")] = "auto",
    yes: YesOption = False,
) -> None:
    """Generate the trace that a service file describes."""
    from orchestrator.loading import load_service
    from orchestrator.planning import stream_workload, trace_of
    from profiler.traces import write_trace

    refuse_to_overwrite(out, yes=yes)
    loaded = load_service(service)
    trace = trace_of(stream_workload(loaded, stream), loaded.directory)
    write_trace(trace, out)
    say(f"wrote {out}: {len(trace)} requests in {trace.duration_s:.0f} s")


def show(
    path: Annotated[Path, typer.Argument(help="A trace: CSV or JSONL, gzip too.")],
    fmt: Annotated[
        TraceFormat, typer.Option("--format", help="How its columns are named.")
    ] = TraceFormat.AUTO,
    output: OutputOption = Format.TABLE,
) -> None:
    """Read a trace and show its rate, burstiness and sizes."""
    from profiler.traces import read_trace
    from profiler.workload import workload_from_trace

    trace = read_trace(path, format=fmt.value)
    workload = workload_from_trace(trace)
    emit(_summary(trace, workload), output, lambda: [_table(trace, workload)])


def _summary(trace: Trace, workload: Workload) -> dict[str, Any]:
    return {
        "source": trace.source,
        "requests": len(trace),
        "duration_s": trace.duration_s,
        "workload": workload.model_dump(mode="json"),
    }


def _table(trace: Trace, workload: Workload) -> RenderableType:
    import numpy as np
    from rich.table import Table

    title = (
        f"{len(trace)} requests in {trace.duration_s:.0f} s: {workload.mean_rate_rps:.3g}/s on "
        f"average, {workload.planned_rate_rps:.3g}/s in a busy minute (p95), "
        f"CV of inter-arrivals {workload.arrival_cv:.2f}"
    )
    table = Table("tokens", box=None, pad_edge=False, title=title, title_justify="left")
    for header in ("mean", "p50", "p90", "p99", "max"):
        table.add_column(header, justify="right")
    for name, tokens in (("input", trace.input_tokens), ("output", trace.output_tokens)):
        stats = [tokens.mean(), *np.percentile(tokens, [50, 90, 99]), tokens.max()]
        table.add_row(name, *(f"{s:,.0f}" for s in stats))
    return table


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    group = typer.Typer(no_args_is_help=True)
    group.command()(generate)
    group.command()(show)
    app.add_typer(group, name="trace", help="Generate and inspect request traces.")
