"""Cost against quality of routers, drawn in characters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orchestrator.router_report import ordered
from serve_apps.router.evaluation.comparison import Comparison
from serve_apps.router.evaluation.metrics import Curve

HEIGHT, LABELS = 14, 8
LEFT_OUT = ("oracle", "random")
"""Single samples flatter the oracle so much that the others would share one line; random choice
follows the zero router."""
ZERO = "zero router"
MARKS, PLAIN_MARKS = "●◆■▲○◇□△", "*#@%ox+="
BLIND, PLAIN_BLIND = "·", "."


def plot_lines(
    found: Comparison, width: int = 78, height: int = HEIGHT, encoding: str = "utf-8"
) -> list[str]:
    """The curves of the first split; the zero router is dotted, routers are over baselines."""
    plain = not encoding.lower().startswith("utf")
    marks, blind = (PLAIN_MARKS, PLAIN_BLIND) if plain else (MARKS, BLIND)
    pair = found.lead_in == "APGR"
    # Always the best model is a line of a pair's plot, and the zero router's.
    hidden = {*LEFT_OUT, "best single"} if pair else set(LEFT_OUT)
    rows = [r for r in ordered(found) if r.curve is not None and r.name not in hidden]
    rows.sort(key=lambda r: (r.baseline, r.name == ZERO))
    curves = [r.curve for r in rows if r.curve is not None]
    x_range, y_range = _range([c.cost for c in curves]), _range([c.quality for c in curves])
    canvas = [[" "] * max(width - LABELS - 1, 20) for _ in range(height)]
    mark_of = [blind if r.name == ZERO else marks[i % len(marks)] for i, r in enumerate(rows)]
    for curve, mark in reversed(list(zip(curves, mark_of, strict=True))):
        _draw(canvas, curve, mark, x_range, y_range)
    legend = "  ".join(f"{mark} {row.name}" for row, mark in zip(rows, mark_of, strict=True))
    axes = "PGR over share of strong calls" if pair else "mean score over mean cost"
    return [axes, legend, *_framed(canvas, x_range, y_range)]


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
