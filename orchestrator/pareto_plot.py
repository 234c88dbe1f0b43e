"""Cost against a limit as an SVG staircase, for the HTML page of a plan."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from itertools import pairwise

from orchestrator.pareto_report import TITLES, heading, remark, value_text
from placement.explanation import Pareto, ParetoPoint

WIDTH, HEIGHT, LEFT, BOTTOM = 420, 220, 52, 30


def pareto_figure(curve: Pareto) -> str:
    """An ``<article>`` with the curve, and all of its points as a table."""
    rows = "".join(
        f"<tr><th scope=row>{escape(value_text(curve, p))}</th>"
        f"<td>{'–' if p.usd_per_hour is None else f'{p.usd_per_hour:,.2f}'}</td>"
        f"<td class=text>{escape(remark(p))}</td></tr>"
        for p in curve.points
    )
    return (
        f"<article class=wide><h3>{escape(TITLES[curve.over])}</h3>{_plot(curve)}"
        f"<details><summary>{len(curve.points)} settings</summary><div class=scroll>"
        f"<table class=plain><thead><tr><th>{escape(heading(curve))}</th><th>$/h</th>"
        f"<th class=text>fleet</th></tr></thead><tbody>{rows}</tbody></table></div></details>"
        "</article>"
    )


def _plot(curve: Pareto) -> str:
    found = sorted((p for p in curve.points if p.usd_per_hour is not None), key=lambda p: p.value)
    if not found:
        return "<p>No setting has a plan.</p>"
    scale = _Scale(curve.points, max(p.usd_per_hour or 0.0 for p in found))
    dots = "".join(_dot(curve, p, scale) for p in found)
    gaps = "".join(
        f'<line class=gap x1="{scale.x(p.value):.1f}" x2="{scale.x(p.value):.1f}" y1="8" '
        f'y2="{HEIGHT - BOTTOM}"><title>{escape(remark(p))}</title></line>'
        for p in curve.points
        if p.usd_per_hour is None
    )
    ticks = "".join(
        f'<line class=grid x1="{LEFT}" x2="{WIDTH - 8}" y1="{scale.y(usd):.1f}" '
        f'y2="{scale.y(usd):.1f}"/><text x="{LEFT - 5}" y="{scale.y(usd) + 4:.1f}" '
        f'text-anchor="end">${usd:,.4g}</text>'
        for usd in scale.ticks
    )
    ends = (curve.points[0].value, curve.points[-1].value)
    labels = "".join(
        f'<text x="{scale.x(v):.1f}" y="{HEIGHT - 12}" '
        f'text-anchor="{"start" if v == min(ends) else "end"}">{_setting(curve, v)}</text>'
        for v in ends
    )
    middle = (LEFT + WIDTH) / 2
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role=img '
        f'aria-label="{escape(TITLES[curve.over], quote=True)}">{ticks}{gaps}'
        f'<polyline class=steps points="{_staircase(curve, found, scale)}"/>{dots}{labels}'
        f'<text x="{middle:.0f}" y="{HEIGHT - 12}" text-anchor="middle">'
        f"{escape(heading(curve))}</text></svg>"
    )


class _Scale:
    """Settings across (evenly by ratio where they are latencies), dollars up from zero."""

    def __init__(self, points: Sequence[ParetoPoint], most_usd: float) -> None:
        self._values = sorted({p.value for p in points})
        self._most = most_usd or 1.0

    @property
    def ticks(self) -> tuple[float, ...]:
        return tuple(self._most * part for part in (0.0, 0.25, 0.5, 0.75, 1.0))

    def x(self, value: float) -> float:
        low, high = self._values[0], self._values[-1]
        if low > 0 and high / low > 4:
            share = math.log(value / low) / math.log(high / low)
        else:
            share = (value - low) / (high - low) if high > low else 0.5
        return LEFT + 12 + share * (WIDTH - LEFT - 28)

    def y(self, usd: float) -> float:
        return HEIGHT - BOTTOM - usd / self._most * (HEIGHT - BOTTOM - 16)


def _staircase(curve: Pareto, found: Sequence[ParetoPoint], scale: _Scale) -> str:
    """Between two settings the stricter one's fleet is what is known to do."""
    corners: list[tuple[float, float]] = []
    for before, after in pairwise(found):
        strict = after if curve.over == "quality" else before
        cost = scale.y(strict.usd_per_hour or 0.0)
        corners += [(scale.x(before.value), cost), (scale.x(after.value), cost)]
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)


def _dot(curve: Pareto, point: ParetoPoint, scale: _Scale) -> str:
    usd = point.usd_per_hour or 0.0
    title = escape(f"{value_text(curve, point)}: ${usd:,.2f}/h, {remark(point)}")
    kind = "asked" if point.asked else "decode"
    return (
        f'<circle class={kind} cx="{scale.x(point.value):.1f}" cy="{scale.y(usd):.1f}" '
        f'r="{5 if point.asked else 3.5}"><title>{title}</title></circle>'
    )


def _setting(curve: Pareto, value: float) -> str:
    return f"{value:.3f}" if curve.over == "quality" else f"{value * 1e3:,.4g}"
