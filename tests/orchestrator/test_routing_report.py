"""Comparisons of routers on a terminal: columns split to fit, curves drawn in characters."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from orchestrator.cost_quality_plot import plot_lines
from orchestrator.routing_report import eval_tables
from tests.orchestrator.comparisons import comparison


def rendered(width: int) -> list[str]:
    console = Console(width=width, record=True, file=StringIO())
    for part in eval_tables(comparison(), width):
        console.print(part)
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_nothing_is_cut_in_a_narrow_terminal():
    text = "\n".join(rendered(60))
    assert "…" not in text
    for cell in ("0.700 ± 0.100", "never", "+0.200 [+0.100, +0.300]"):
        assert cell in text


def test_routers_are_drawn_over_baselines():
    lines = plot_lines(comparison(), 60, 9)
    assert "● ours & co" in lines[1] and "· zero router" in lines[1]
    assert max(map(len, lines)) <= 60
    drawn = [line.partition("|")[2] for line in lines if "|" in line]
    # A square root lies above the straight line, and meets it at both ends.
    assert drawn[0].rstrip().endswith("●")
    assert all(row.find("●") < row.find("·") for row in drawn if "●" in row and "·" in row)


def test_a_terminal_without_unicode_gets_ascii():
    assert all(line.isascii() for line in plot_lines(comparison(), encoding="ascii"))
