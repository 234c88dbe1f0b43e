"""A simulation as one HTML page that needs nothing else: verdict, latencies, load over time."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

import numpy as np

from orchestrator.html import HUES, document, plain_table
from orchestrator.judging import Met
from orchestrator.line_plot import Line, line_figure
from orchestrator.simulation.result import FleetTimings
from orchestrator.simulation_report import headline, seconds, verdict
from orchestrator.simulation_result import SimulationResult
from orchestrator.simulator import Floats
from profiler.core import Slo

POINTS = 200
"""Points of a line; windows of the lines over time."""


def page(result: SimulationResult, timings: FleetTimings, found: Met) -> str:
    """The whole document."""
    held = all(s.holds for s in result.streams)
    body = (
        f"<header><h1>{escape(result.service)}: "
        f"{'the SLO holds' if held else 'the SLO is missed'}</h1>"
        f"<p class=lede>{escape(headline(result))}. A simulation: timing comes from the plan's "
        f"profiles. Every arrival counts, those turned away too.</p></header>{_tables(result)}"
        f"<section id=plots><h2>Latency</h2><div class=cards>{''.join(_latency(timings, found))}"
        f"</div><h2>Over time</h2><div class=cards>{''.join(_over_time(timings, found))}</div>"
        "</section>"
    )
    return document(f"Simulation: {result.service}", body, "plan.css")


def _tables(result: SimulationResult) -> str:
    streams = [
        (s.stream, f"{s.requests:,}", f"{s.ttft_attainment:.2%}", f"{s.tpot_attainment:.2%}",
         f"{s.attainment:.2%}", f"{s.slo.attainment:.6g}", verdict(s))
        for s in result.streams
    ]  # fmt: skip
    groups = [
        (g.group, str(g.replicas), f"{g.requests:,}",
         "–" if g.attainment is None else f"{g.attainment:.2%}", f"{g.utilisation:.0%}",
         f"{g.usd:,.2f}")
        for g in result.groups
    ]  # fmt: skip
    latencies = [
        (name, seconds(p.p50), seconds(p.p90), seconds(p.p99))
        for name, p in (
            ("TTFT", result.ttft_s), ("TPOT", result.tpot_s), ("end to end", result.e2e_s)
        )
    ]  # fmt: skip
    outcomes = [(name, f"{n:,}") for name, n in result.outcomes.items()]
    stream_headers = ("stream", "requests", "TTFT met", "TPOT met", "both", "asked", "")
    return (
        "<section><h2>Attainment</h2>"
        + plain_table(stream_headers, streams, text=(6,))
        + "<h2>Groups</h2>"
        + plain_table(("group", "replicas", "requests", "met", "busy", "$"), groups)
        + "<h2>Seconds</h2>"
        + plain_table(("", "p50", "p90", "p99"), latencies)
        + plain_table(("outcome", "requests"), outcomes)
        + "</section>"
    )


def _latency(timings: FleetTimings, found: Met) -> Iterator[str]:
    """Cumulative distributions, one line a stream, with the first SLO's limit."""
    slo = found.slos[0]
    for name, values, limit in (
        ("TTFT", timings.ttft_s, slo.ttft_s),
        ("TPOT", timings.tpot_s, slo.tpot_s),
    ):
        lines = [
            Line(stream, *_cdf(values[timings.stream == s], limit), s % HUES)
            for s, stream in enumerate(timings.streams)
        ]
        yield line_figure(
            name,
            lines,
            x_label="seconds",
            y_label=f"Share of requests within so many seconds; {_asked(slo)} dashed",
            percent=True,
            x_limit=limit,
            y_limit=slo.attainment,
        )


def _asked(slo: Slo) -> str:
    return f"the limit and the share asked ({slo.attainment:.6g})"


def _cdf(values: Floats, limit: float) -> tuple[Floats, Floats]:
    known = np.sort(values[~np.isnan(values)])
    finite = known[np.isfinite(known)]
    most = max(float(finite[-1]) if len(finite) else 0.0, limit)
    shown = np.linspace(0.0, min(most, 3 * limit), POINTS)
    return shown, np.searchsorted(known, shown, side="right") / max(len(known), 1)


def _over_time(timings: FleetTimings, found: Met) -> Iterator[str]:
    end_s = max(float(timings.arrival_s[-1]), 1.0)
    edges = np.linspace(0.0, end_s, min(POINTS, max(1, int(end_s // 10))) + 1)
    middle_h = (edges[:-1] + edges[1:]) / 2 / 3600
    window = np.clip(np.searchsorted(edges, timings.arrival_s, side="right") - 1, 0, len(edges) - 2)
    counts = np.bincount(window, minlength=len(edges) - 1)
    good = np.bincount(window, weights=found.both, minlength=len(edges) - 1)
    yield line_figure(
        "Arrivals",
        [Line("arrivals", middle_h, counts / np.diff(edges))],
        x_label="hours",
        y_label="Requests per second",
    )
    seen = counts > 0
    yield line_figure(
        "Attainment",
        [Line("attainment", middle_h[seen], good[seen] / counts[seen])],
        x_label="hours",
        y_label="Share of the arrivals of each window that met the SLO; the share asked dashed",
        percent=True,
        y_limit=found.slos[0].attainment,
    )
    yield line_figure(
        "In flight",
        [
            Line(name, edges / 3600, _in_flight(timings, g, edges), g % HUES)
            for g, name in enumerate(timings.groups)
        ],
        x_label="hours",
        y_label="Requests of each group that have come and not ended",
    )


def _in_flight(timings: FleetTimings, group: int, at_s: Floats) -> Floats:
    mine = (timings.group == group) & np.isfinite(timings.finish_s)
    come, gone = (np.sort(t[mine]) for t in (timings.arrival_s, timings.finish_s))
    count = np.searchsorted(come, at_s) - np.searchsorted(gone, at_s, side="right")
    return np.asarray(count, dtype=np.float64)
