"""Cost against quality of routers, drawn in characters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orchestrator.router_report import ordered
from serve_apps.router.evaluation.comparison import Comparison, Row
from serve_apps.router.evaluation.metrics import Curve

HEIGHT, LABELS = 14, 7
LEFT_OUT = ("oracle",)
"""Single samples flatter it so much that the others would share one line."""
MARKS, PLAIN_MARKS = "●◆■▲○◇□△", "*#@%ox+="
BLIND, PLAIN_BLIND = "·", "."


def plot_lines(
    found: Comparison, width: int = 78, height: int = HEIGHT, encoding: str = "utf-8"
) -> list[str]:
    """The curves of the first split; the zero router is dotted, routers are over baselines."""
    plain = not encoding.lower().startswith("utf")
    marks, blind = (PLAIN_MARKS, PLAIN_BLIND) if plain else (MARKS, BLIND)
    rows = [r for r in ordered(found) if r.curve is not None and r.name not in LEFT_OUT]
    rows.sort(key=lambda r: not r.baseline)
    columns = max(width - LABELS - 1, 20)
    curves = [(r, r.curve) for r in rows if r.curve is not None]
    x_range = _range([c.cost for _, c in curves])
    y_range = _range([c.quality for _, c in curves])
    canvas = [[" "] * columns for _ in range(height)]
    legend = []
    own = {r.name: marks[i % len(marks)] for i, r in enumerate(_named(rows, blind=False))}
    for row, curve in reversed(sorted(curves, key=lambda p: not p[0].baseline)):
        mark = own.get(row.name, blind)
        _draw(canvas, curve, mark, x_range, y_range)
        legend.append(f"{mark} {row.name}")
    pair = found.lead_in == "APGR"
    lines = [("PGR" if pair else "mean score") + " over " + ("share of strong calls" if pair else
             "mean cost") + ": " + "  ".join(legend)]  # fmt: skip
    return [*lines, *_framed(canvas, x_range, y_range)]


def _named(rows: Sequence[Row], *, blind: bool) -> list[Row]:
    kept = [r for r in rows if (r.name == "zero router") == blind]
    return sorted(kept, key=lambda r: r.baseline)


def _range(values: Sequence[object]) -> tuple[float, float]:
    joined = np.concatenate([np.asarray(v, dtype=float) for v in values])
    joined = joined[np.isfinite(joined)]
    low, high = float(joined.min()), float(joined.max())
    return low, high if high > low else low + 1.0


def _draw(
    canvas: list[list[str]],
    curve: Curve,
    mark: str,
    x_range: tuple[float, float],
    y_range: tuple[float, float],
) -> None:
    """One mark per column inside the curve's own range of cost."""
    height, columns = len(canvas), len(canvas[0])
    if curve.cost.size == 1:
        xs = curve.cost
    else:
        grid = np.linspace(*x_range, columns)
        step = grid[1] - grid[0]
        xs = grid[(grid >= curve.cost[0] - step / 2) & (grid <= curve.cost[-1] + step / 2)]
    ys = np.interp(xs, curve.cost, curve.quality)
    for x, y in zip(xs.tolist(), ys.tolist(), strict=True):
        if not np.isfinite(y):
            continue
        column = round((x - x_range[0]) / (x_range[1] - x_range[0]) * (columns - 1))
        line = round((y - y_range[0]) / (y_range[1] - y_range[0]) * (height - 1))
        canvas[height - 1 - line][column] = mark


def _framed(
    canvas: Sequence[Sequence[str]], x_range: tuple[float, float], y_range: tuple[float, float]
) -> list[str]:
    height, columns = len(canvas), len(canvas[0])
    lines = []
    for i, cells in enumerate(canvas):
        value = y_range[1] - i / (height - 1) * (y_range[1] - y_range[0])
        label = f"{value:.3g}" if i % 4 == 0 or i == height - 1 else ""
        lines.append(f"{label:>{LABELS - 1}} |{''.join(cells)}".rstrip())
    low, high = f"{x_range[0]:.3g}", f"{x_range[1]:.3g}"
    lines.append(" " * LABELS + "+" + "-" * columns)
    lines.append(" " * (LABELS + 1) + low + " " * max(columns - len(low) - len(high), 1) + high)
    return lines
