"""Comparisons of routers as one HTML page that needs nothing else: no scripts, fonts or network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files

from orchestrator.router_report import headline, interval, metrics_of, ordered, with_spread
from serve_apps.router.evaluation.comparison import DEFINITIONS, Comparison, Row
from serve_apps.router.evaluation.metrics import Curve

WIDTH, HEIGHT, LEFT, BOTTOM = 720, 380, 52, 36
HUES = ("#0b6e5f", "#d1742f", "#6b7fd7", "#b0447c", "#8a8f1c", "#2b8fb8", "#a15c3e", "#5f5f5f")
MOST_POINTS = 400
"""A curve has a point per prompt; more than this cannot be told apart."""


def page(comparisons: Sequence[Comparison]) -> str:
    """The whole document."""
    style = files("orchestrator").joinpath("data/value.css").read_text(encoding="utf-8")
    titles = ", ".join(c.title for c in comparisons)
    links = "".join(f'<a href="#c{i}">{escape(c.title)}</a>' for i, c in enumerate(comparisons))
    sections = "".join(_section(i, c) for i, c in enumerate(comparisons))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>Routers compared: {escape(titles)}</title><style>{style}"
        "svg path{fill:none;stroke-width:2}svg path.base{stroke-dasharray:5 4;stroke-width:1.5}"
        ".swatch{display:inline-block;width:14px;height:3px;margin-right:6px;vertical-align:middle}"
        "</style></head><body><main><header><h1>Routers compared</h1>"
        "<p class=lede>Each learned from one part of the prompts and was judged on the rest. "
        f"Baselines are dashed.</p><nav>{links}</nav></header>{sections}</main></body></html>\n"
    )


def _section(i: int, found: Comparison) -> str:
    return (
        f'<section id="c{i}"><h2>{escape(found.title)}</h2><p>{escape(headline(found))}</p>'
        f"{plot(found)}{_figures(found)}{_leads(found)}{_definitions(found)}</section>"
    )


def plot(found: Comparison) -> str:
    """Every router's curve on the first split, as SVG: quality, or PGR, over cost."""
    rows = [r for r in ordered(found) if r.curve is not None and r.curve.cost.size]
    curves = [r.curve for r in rows if r.curve is not None]
    low, high = min(c.cost.min() for c in curves), max(c.cost.max() for c in curves)
    bottom, top = min(c.quality.min() for c in curves), max(c.quality.max() for c in curves)
    x = _Scale(float(low), float(high), LEFT, WIDTH - 10)
    y = _Scale(float(bottom), float(top), HEIGHT - BOTTOM, 12)
    pair = found.lead_in == "APGR"
    across, up = ("share of strong calls", "PGR") if pair else ("mean cost", "mean score")
    lines = "".join(_line(row, i, x, y) for i, row in enumerate(rows))
    return (
        f'<figure><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{up} over {across}">{"".join(_grid(x, y))}{lines}'
        f'<text x="{WIDTH - 10}" y="{HEIGHT - 4}" text-anchor="end">{across}</text>'
        f'<text x="4" y="10">{up}</text></svg></figure>'
    )


class _Scale:
    """Values to pixels."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.high = low, high if high > low else low + 1
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        part = (value - self.low) / (self.high - self.low)
        return self._start + part * (self._end - self._start)

    def ticks(self) -> Iterator[tuple[float, str]]:
        """Five positions and what they stand for."""
        for k in range(5):
            value = self.low + k / 4 * (self.high - self.low)
            yield self(value), f"{value:.3g}"


def _grid(x: _Scale, y: _Scale) -> Iterator[str]:
    for at, text in x.ticks():
        yield f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="12" y2="{HEIGHT - BOTTOM}"/>'
        yield f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 14}" text-anchor="middle">{text}</text>'
    for at, text in y.ticks():
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - 10}" y1="{at:.1f}" y2="{at:.1f}"/>'
        yield f'<text x="{LEFT - 4}" y="{at + 4:.1f}" text-anchor="end">{text}</text>'


def _line(row: Row, i: int, x: _Scale, y: _Scale) -> str:
    assert row.curve is not None
    points = [f"{x(c):.1f},{y(q):.1f}" for c, q in _thinned(row.curve)]
    hue = HUES[i % len(HUES)]
    name = f"<title>{escape(row.name)}</title>"
    if len(points) == 1:
        cx, cy = points[0].split(",")
        return f'<circle cx="{cx}" cy="{cy}" r="4" fill="{hue}">{name}</circle>'
    kind = ' class="base"' if row.baseline else ""
    return f'<path{kind} stroke="{hue}" d="M{" L".join(points)}">{name}</path>'


def _thinned(curve: Curve) -> list[tuple[float, float]]:
    count = curve.cost.size
    step = max(1, -(-count // MOST_POINTS))
    at = [*range(0, count - 1, step), count - 1]
    return [(float(curve.cost[i]), float(curve.quality[i])) for i in at]


def _figures(found: Comparison) -> str:
    metrics = metrics_of(found)
    head = "".join(f"<th>{escape(m)}</th>" for m in metrics)
    rows = []
    for i, row in enumerate(ordered(found)):
        swatch = f'<span class=swatch style="background:{HUES[i % len(HUES)]}"></span>'
        name = f"<i>{escape(row.name)}</i>" if row.baseline else escape(row.name)
        cells = "".join(f"<td>{with_spread(row.figures.get(m))}</td>" for m in metrics)
        rows.append(f"<tr><th scope=row>{swatch}{name}</th>{cells}</tr>")
    return (
        "<div class=scroll tabindex=0><table class=plain><thead><tr><th></th>"
        f"{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _leads(found: Comparison) -> str:
    rows = [r for r in found.rows if r.leads]
    if not rows:
        return ""
    head = "".join(f"<th>over {escape(b)}</th>" for b in rows[0].leads)
    body = "".join(
        f"<tr><th scope=row>{escape(r.name)}</th>"
        + "".join(f"<td>{interval(lead)}</td>" for lead in r.leads.values())
        + "</tr>"
        for r in rows
    )
    return (
        f"<h3>Lead in {escape(found.lead_in)}</h3><div class=scroll tabindex=0><table class=plain>"
        f"<caption>95 % intervals of a paired bootstrap over prompts</caption><thead><tr><th></th>"
        f"{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _definitions(found: Comparison) -> str:
    terms = "".join(
        f"<dt>{escape(m)}</dt><dd>{escape(DEFINITIONS[m])}</dd>" for m in metrics_of(found)
    )
    return f"<details><summary>What the figures mean</summary><dl>{terms}</dl></details>"
