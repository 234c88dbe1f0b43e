"""Cost against a limit as bars of plain text, strictest setting first."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from placement.explanation import Pareto, ParetoPoint

TITLES = {
    "quality": "cost of mean quality",
    "ttft": "cost of the TTFT target",
    "tpot": "cost of the TPOT target",
}
EIGHTHS = "▏▎▍▌▋▊▉█"
LEAST_BAR, MOST_BAR, OTHER_COLUMNS = 10, 40, 58


def pareto_tables(
    curve: Pareto, width: int = 100, encoding: str = "utf-8"
) -> Iterator[RenderableType]:
    """A row and a bar per setting; ``width`` is the terminal's, in columns."""
    bar_width = max(LEAST_BAR, min(MOST_BAR, width - OTHER_COLUMNS))
    most = max((p.usd_per_hour or 0.0 for p in curve.points), default=0.0)
    yield Text(f"{TITLES[curve.over]}, the cheapest fleet at each setting", style="bold")
    table = Table(box=None, pad_edge=False)
    table.add_column(heading(curve), justify="right", no_wrap=True)
    table.add_column("$/h", justify="right", no_wrap=True)
    table.add_column("", width=bar_width, no_wrap=True)
    table.add_column("fleet", overflow="fold")
    for point in curve.points:
        share = (point.usd_per_hour or 0.0) / most if most else 0.0
        cost = "-" if point.usd_per_hour is None else f"{point.usd_per_hour:,.2f}"
        drawn = "" if point.usd_per_hour is None else bar(share, bar_width, encoding)
        setting = Text(value_text(curve, point), style="bold" if point.asked else "")
        table.add_row(setting, cost, drawn, Text(remark(point)))
    yield table


def heading(curve: Pareto) -> str:
    """What the settings are, with their unit."""
    return "mean quality" if curve.over == "quality" else f"{curve.over.upper()}, ms"


def value_text(curve: Pareto, point: ParetoPoint) -> str:
    """A setting, marked where it is the service file's."""
    text = f"{point.value:.4f}" if curve.over == "quality" else f"{point.value * 1e3:,.4g}"
    return f"asked  {text}" if point.asked else text


def remark(point: ParetoPoint) -> str:
    """The fleet, or why there is none."""
    if point.usd_per_hour is None:
        return f"no plan: {first_line(point.reason)}"
    fleet = ", ".join(f"{n} x {gpu}" for gpu, n in point.gpus.items())
    left_out = f"; leaves out {point.excluded_share:.2%}" if point.excluded_share else ""
    return fleet + left_out


def first_line(reason: str) -> str:
    """The first line of a reason; what it goes on to list does not fit a row."""
    return reason.splitlines()[0].rstrip(":") if reason else ""


def bar(share: float, width: int, encoding: str = "utf-8") -> str:
    """A bar of ``share`` of the width, in eighths where the terminal can show them."""
    if not encoding.lower().startswith("utf"):
        return "#" * max(1, round(share * width))
    eighths = max(1, round(share * width * 8))
    return "█" * (eighths // 8) + (EIGHTHS[eighths % 8 - 1] if eighths % 8 else "")
