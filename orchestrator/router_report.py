"""A comparison of routers as terminal tables: figures with spreads, leads with intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from serve_apps.router.evaluation.bootstrap import Difference
from serve_apps.router.evaluation.comparison import DEFINITIONS, Comparison, Figure, Row


def comparison_tables(found: Comparison) -> Iterator[RenderableType]:
    """The figures, the leads over baselines, and what each figure means."""
    metrics = metrics_of(found)
    table = Table(box=None, title=headline(found), title_justify="left", title_style="bold")
    table.add_column("router", no_wrap=True)
    for metric in metrics:
        table.add_column(metric, justify="right", no_wrap=True)
    for row in ordered(found):
        cells = [with_spread(row.figures.get(metric)) for metric in metrics]
        table.add_row(row.name, *cells, style="dim" if row.baseline else "")
    yield table
    leads = [r for r in found.rows if r.leads]
    if leads:
        yield _leads(found, leads)
    yield Text("\n".join(f"{m}: {DEFINITIONS[m]}" for m in metrics), style="dim")


def _leads(found: Comparison, rows: list[Row]) -> Table:
    title = f"lead in {found.lead_in} over each baseline, 95 % interval of a paired bootstrap"
    table = Table(box=None, title=title, title_justify="left", title_style="bold")
    table.add_column("router", no_wrap=True)
    for baseline in rows[0].leads:
        table.add_column(f"over {baseline}", justify="right")
    for row in rows:
        table.add_row(row.name, *(interval(lead) for lead in row.leads.values()))
    return table


def headline(found: Comparison) -> str:
    """What was compared, on how much."""
    return f"{found.title}: {found.prompts:,} prompts, {found.splits} splits; mean ± spread"


def metrics_of(found: Comparison) -> list[str]:
    """Every metric that some router has, in the order of their definitions."""
    return [m for m in DEFINITIONS if any(m in row.figures for row in found.rows)]


def ordered(found: Comparison) -> list[Row]:
    """Routers by the metric that leads are in, the best first; baselines among them."""
    return sorted(found.rows, key=lambda row: -row.figures[found.lead_in].mean)


def with_spread(figure: Figure | None) -> str:
    """``0.648 ± 0.012``; ``never`` where a target is not reached on some split."""
    if figure is None:
        return "-"
    if math.isinf(figure.mean):
        return "never"
    spread = f" ± {figure.spread:.3f}" if len(figure.values) > 1 else ""
    return f"{figure.mean:.3f}{spread}"


def interval(lead: Difference) -> str:
    """``+0.120 [+0.080, +0.155]``."""
    return f"{lead.value:+.3f} [{lead.low:+.3f}, {lead.high:+.3f}]"


def as_data(found: Comparison) -> dict[str, Any]:
    """The comparison as plain data, for ``-o json``; unreached targets are null."""
    return {
        "title": found.title,
        "splits": found.splits,
        "prompts": found.prompts,
        "definitions": {m: DEFINITIONS[m] for m in metrics_of(found)},
        "routers": [
            {
                "name": row.name,
                "baseline": row.baseline,
                "figures": {m: _figure(f) for m, f in row.figures.items()},
                "leads": {b: _lead(found.lead_in, lead) for b, lead in row.leads.items()},
            }
            for row in ordered(found)
        ],
    }


def _figure(figure: Figure) -> Mapping[str, float | None]:
    return {"mean": _finite(figure.mean), "spread": _finite(figure.spread)}


def _lead(metric: str, lead: Difference) -> Mapping[str, Any]:
    return {
        "in": metric,
        "value": _finite(lead.value),
        "low": _finite(lead.low),
        "high": _finite(lead.high),
        "p_not_better": _finite(lead.p_not_better),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
