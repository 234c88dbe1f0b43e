"""A simulation, and a plan's verification, as terminal text."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.simulation_result import Percentiles, SimulationResult, StreamResult


def simulation_tables(result: SimulationResult) -> Iterator[RenderableType]:
    """The verdict, streams, latencies and groups."""
    yield Text(headline(result), style="bold")
    yield Text()
    yield _stream_table(result)
    yield Text()
    yield _latency_table(result)
    yield Text()
    yield _group_table(result)
    others = {k: n for k, n in result.outcomes.items() if k != "ok"}
    if others:
        said = ", ".join(f"{n:,} {name}" for name, n in others.items())
        yield Text(f"not answered: {said}", style="yellow")
    if result.preemptions:
        yield Text(f"{result.preemptions:,} preemptions", style="dim")


def headline(result: SimulationResult) -> str:
    """What it came to, in one line."""
    seed = "" if result.seed is None else f" (seed {result.seed})"
    return (
        f"{result.service}: simulated {result.requests:,} requests in {result.duration_s:,.0f} s"
        f"{seed}; {result.goodput_rps:.4g} requests/s inside the SLO, "
        f"${result.usd_per_1000_requests:.4f} per 1,000 requests"
    )


def verdict(stream: StreamResult) -> str:
    """Whether a stream kept its SLO, in a word."""
    return "holds" if stream.holds else "MISSED"


def seconds(value: float | None) -> str:
    """A latency in three figures."""
    return "never" if value is None else f"{value:.3g}"


def _stream_table(result: SimulationResult) -> Table:
    table = Table("stream", box=None, pad_edge=False)
    for header in ("requests", "TTFT met", "TPOT met", "both", "asked", ""):
        table.add_column(header, justify="right")
    for s in result.streams:
        table.add_row(
            s.stream,
            f"{s.requests:,}",
            f"{s.ttft_attainment:.2%}",
            f"{s.tpot_attainment:.2%}",
            f"{s.attainment:.2%}",
            f"{s.slo.attainment:.6g} in {s.slo.ttft_s:g} s, {s.slo.tpot_s * 1e3:g} ms",
            verdict(s),
            style=None if s.holds else "red",
        )
    return table


def _latency_table(result: SimulationResult) -> Table:
    table = Table("seconds", box=None, pad_edge=False)
    for header in ("p50", "p90", "p99"):
        table.add_column(header, justify="right")
    rows: tuple[tuple[str, Percentiles], ...] = (
        ("TTFT", result.ttft_s),
        ("TPOT", result.tpot_s),
        ("end to end", result.e2e_s),
    )
    for name, p in rows:
        table.add_row(name, seconds(p.p50), seconds(p.p90), seconds(p.p99))
    return table


def _group_table(result: SimulationResult) -> Table:
    table = Table("group", box=None, pad_edge=False)
    for header in ("replicas", "requests", "met", "busy", "$"):
        table.add_column(header, justify="right")
    for g in result.groups:
        table.add_row(
            g.group,
            str(g.replicas),
            f"{g.requests:,}",
            "-" if g.attainment is None else f"{g.attainment:.2%}",
            f"{g.utilisation:.0%}",
            f"{g.usd:,.2f}",
        )
    return table
