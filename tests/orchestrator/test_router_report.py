"""A comparison reads as a table, best first, with spreads, intervals and definitions."""

from __future__ import annotations

import json

from rich.console import Console

from orchestrator.router_report import as_data, comparison_tables
from tests.orchestrator.comparisons import comparison


def shown() -> str:
    console = Console(width=120, record=True, quiet=False, file=None)
    with console.capture() as capture:
        for part in comparison_tables(comparison()):
            console.print(part)
    return capture.get()


def test_the_best_comes_first_with_its_spread() -> None:
    text = shown()
    assert text.index("ours & co") < text.index("zero router") < text.index("fixed")
    assert "0.700 ± 0.100" in text
    assert "1,234 prompts, 2 splits" in text


def test_what_is_never_reached_says_so_and_is_no_number() -> None:
    assert "never" in shown()
    assert "inf" not in shown()
    data = as_data(comparison())
    assert data["routers"][0]["figures"]["CPT(50)"] == {"mean": None, "spread": None}
    json.dumps(data, allow_nan=False)


def test_leads_have_intervals_and_figures_definitions() -> None:
    text = shown()
    assert "+0.200 [+0.100, +0.300]" in text
    assert "APGR: mean over c" in text
