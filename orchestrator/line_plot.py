"""Lines over a common axis as an SVG figure, for HTML pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import ArrayLike

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 420, 220, 46, 34, 10
TICKS = 4


@dataclass(frozen=True)
class Line:
    """One line: its points, in rising order of x, and the hue of its class."""

    name: str
    x: ArrayLike
    y: ArrayLike
    hue: int = 0


def line_figure(
    title: str,
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    percent: bool = False,
    x_limit: float | None = None,
    y_limit: float | None = None,
    marks: Sequence[tuple[float, str]] = (),
) -> str:
    """An ``<article>`` with the lines; ``x_limit`` and ``y_limit`` are limits to draw.

    ``marks`` are values of x where something happened, and what.
    """
    points = [(np.asarray(line.x, float), np.asarray(line.y, float)) for line in lines]
    most_x = max([float(x[-1]) for x, _ in points if len(x)] + [x_limit or 0.0]) or 1.0
    most_y = 1.0 if percent else max([float(y.max()) for _, y in points if len(y)] + [1e-9])

    def across(x: float) -> float:
        return LEFT + x / most_x * (WIDTH - LEFT - 12)

    def up(y: float) -> float:
        return HEIGHT - BOTTOM - y / most_y * (HEIGHT - BOTTOM - TOP)

    drawn = "".join(
        f'<polyline class="steps hue-{line.hue}" points="'
        + " ".join(f"{across(a):.1f},{up(b):.1f}" for a, b in zip(x, y, strict=True))
        + f'"><title>{escape(line.name)}</title></polyline>'
        for line, (x, y) in zip(lines, points, strict=True)
    )
    limits = ""
    if x_limit is not None:
        x = across(x_limit)
        limits += f'<line class=gap x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
    if y_limit is not None:
        limits += (
            f'<line class=gap x1="{LEFT}" x2="{WIDTH - 12}" y1="{up(y_limit):.1f}" '
            f'y2="{up(y_limit):.1f}"/>'
        )
    happened = "".join(
        f'<g><title>{escape(what)}</title><line class=mark x1="{across(x):.1f}" '
        f'x2="{across(x):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        f'<circle class=mark cx="{across(x):.1f}" cy="{TOP}" r="3"/></g>'
        for x, what in marks
    )
    key = "".join(f'<span class="hue-{n.hue}">{escape(n.name)}</span>' for n in lines)
    return (
        f"<article class=wide><h3>{escape(title)}</h3>"
        f"{f'<p class=swatches>{key}</p>' if len(lines) > 1 else ''}"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role=img aria-label="{escape(title, quote=True)}">'
        f"{_grid(most_x, most_y, percent)}{limits}{happened}{drawn}"
        f'<text x="{(LEFT + WIDTH) / 2:.0f}" y="{HEIGHT - 4}" text-anchor="middle">'
        f"{escape(x_label)}</text></svg><p>{escape(y_label)}</p></article>"
    )


def _grid(most_x: float, most_y: float, percent: bool) -> str:
    parts = []
    for k in range(TICKS + 1):
        y = HEIGHT - BOTTOM - k / TICKS * (HEIGHT - BOTTOM - TOP)
        x = LEFT + k / TICKS * (WIDTH - LEFT - 12)
        shown = f"{k / TICKS:.0%}" if percent else f"{k / TICKS * most_y:.3g}"
        parts.append(
            f'<line class=grid x1="{LEFT}" x2="{WIDTH - 12}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{shown}</text>'
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 14}" text-anchor="middle">'
            f"{k / TICKS * most_x:.3g}</text>"
        )
    return "".join(parts)
