"""Tokens per dollar as terminal tables: a heat map with numbers, and the reasons for its gaps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from profiler.core import Market
from profiler.value import Cell, Size, ValueTable

# One hue, dark to light, each with its own ink: read alike on light and dark terminals.
SHADES = (
    (0.25, "bright_white on color(23)"), (0.5, "bright_white on color(29)"),
    (0.75, "color(16) on color(36)"), (0.999, "color(16) on color(79)"),
)  # fmt: skip
BEST = "bold color(16) on color(220)"
NAME_WIDTH, CELL_WIDTH = 11, 10
MARKETS = {"on_demand": "on demand", "spot": "spot"}


def value_tables(table: ValueTable, width: int) -> Iterator[RenderableType]:
    """For each model and market: heat maps that fit ``width`` columns, then what is missing."""
    slo = table.slo
    yield Text(
        f"million tokens per dollar, input and output together; TTFT {slo.ttft_s:g} s and TPOT "
        f"{slo.tpot_s * 1e3:g} ms for {slo.attainment:.0%} of requests",
        style="bold",
    )
    yield legend()
    for model, market in table.panels:
        yield Text(f"\n{model}, {MARKETS[market]}", style="bold")
        gpus = table.gpus(model, market)
        for sizes in _split(table.sizes, width):
            yield heat_map(table, model, market, gpus, sizes)
        yield from _reasons(table, model, market, gpus)


def legend() -> Text:
    """What the shades and marks mean."""
    text = Text("share of the best for the size: ")
    low = 0
    for limit, style in SHADES:
        high = round(min(limit, 1) * 100)
        text.append(f" {low}-{high} % ", style)
        low = high
    text.append(" *best ", BEST)
    return text.append("  ~ estimated  /n GPUs a replica  - cannot keep the limits")


def heat_map(
    table: ValueTable, model: str, market: Market, gpus: Sequence[str], sizes: Sequence[Size]
) -> Table:
    """GPU types down, sizes across; the best of each size is marked."""
    grid = Table(box=None, pad_edge=False, padding=(0, 0))
    grid.add_column("in+out", width=NAME_WIDTH)
    for size in sizes:
        grid.add_column(str(size), justify="right", width=CELL_WIDTH, no_wrap=True)
    rows = {size: {c.gpu: c for c in table.row(model, market, size)} for size in sizes}
    best = {s: max((c.tokens_per_usd for c in rows[s].values()), default=0.0) for s in sizes}
    for gpu in gpus:
        grid.add_row(gpu, *(_cell(rows[s].get(gpu), best[s]) for s in sizes))
    return grid


def millions(tokens: float) -> str:
    """Millions of tokens in three digits, zeros included."""
    number = tokens / 1e6
    digits = 0 if number >= 100 else 1 if number >= 10 else 2
    return f"{number:.{digits}f}" if number >= 0.1 else f"{number:.2g}"


def _cell(cell: Cell | None, best: float) -> Text:
    if cell is None or not cell.feasible:
        return Text("- ", style="dim")
    share = cell.tokens_per_usd / best
    mark = "*" if share == 1 else ""
    # The width of a replica and the kind of its numbers are one character each.
    size = f"/{cell.tensor_parallel}" if (cell.tensor_parallel or 1) > 1 else ""
    estimated = "~" if cell.basis == "roofline" else ""
    style = BEST if mark else next((s for limit, s in SHADES if share <= limit), SHADES[-1][1])
    return Text(f"{mark}{estimated}{millions(cell.tokens_per_usd)}{size} ", style)


def _reasons(
    table: ValueTable, model: str, market: Market, gpus: Sequence[str]
) -> Iterator[RenderableType]:
    """Why a GPU type has gaps: the first size it cannot serve, and how many there are."""
    for gpu in gpus:
        cells = [c for c in table.cells if (c.model, c.gpu, c.market) == (model, gpu, market)]
        gaps = [c for c in cells if not c.feasible]
        if gaps:
            which = (
                "every size" if len(gaps) == len(cells) else f"{len(gaps)} of {len(cells)} sizes"
            )
            example = "" if len(gaps) == len(cells) else f", such as {gaps[0].size}"
            yield Text(f"- {gpu}: {which}{example}: {gaps[0].reason}", style="yellow")


def _split(sizes: Sequence[Size], width: int) -> Iterator[Sequence[Size]]:
    """All sizes in one table where they fit, else one table per answer length."""
    if NAME_WIDTH + len(sizes) * CELL_WIDTH <= width:
        yield sizes
        return
    across = max(1, (width - NAME_WIDTH) // CELL_WIDTH)
    for output in dict.fromkeys(s.output_tokens for s in sizes):
        same = [s for s in sizes if s.output_tokens == output]
        yield from (same[i : i + across] for i in range(0, len(same), across))
