"""What the commands of `router` show on a terminal of 80 columns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.cost_quality_plot import plot_lines
from orchestrator.router_report import comparison_tables, metrics_of, ordered, with_spread
from orchestrator.routing_calibration import Calibrated
from orchestrator.routing_costs import USD, Costs
from orchestrator.routing_explain import Explanation, top_pieces
from orchestrator.routing_onboard import Joined
from serve_apps.router.calibrating import Interval
from serve_apps.router.evaluation.comparison import DEFINITIONS, Comparison, Row

TRAINING = ("APGR", "cost@95%", "ECE", "Brier")
NAME_WIDTH, CELL_WIDTH = 18, 15


def training_table(
    found: Sequence[Comparison], pair: tuple[str, str] | None
) -> Iterator[RenderableType]:
    """The main figures of the pair and the pool in one table."""
    table = Table(box=None, pad_edge=False, title="on the test", title_justify="left")
    table.add_column("router", no_wrap=True)
    shown = [m for m in TRAINING if any(m in row.figures for c in found for row in c.rows)]
    for metric in shown:
        table.add_column(metric, justify="right", no_wrap=True)
    for row in ordered(found[-1]):
        parts = [c.row(row.name) for c in found]
        cells = [_first(parts, metric) for metric in shown]
        table.add_row(row.name, *cells, style="dim" if row.baseline else "bold")
    yield table
    if pair is not None:
        yield Text(f"APGR is for {pair[0]} to {pair[1]}, the rest for the pool", style="dim")
    yield definitions(shown)


def _first(rows: Sequence[Row], metric: str) -> str:
    return next((with_spread(r.figures[metric]) for r in rows if metric in r.figures), "-")


def definitions(metrics: Sequence[str]) -> Text:
    """A line for each."""
    return Text("\n".join(f"{m}: {DEFINITIONS[m]}" for m in metrics), style="dim")


def eval_tables(
    found: Comparison, width: int = 80, encoding: str = "utf-8"
) -> Iterator[RenderableType]:
    """A comparison's tables, columns split so that they fit, and its curves."""
    metrics = metrics_of(found)
    fitting = max(2, (width - NAME_WIDTH) // CELL_WIDTH)
    # Parts of equal size, so that none is left with one column.
    fitting = -(-len(metrics) // -(-len(metrics) // fitting))
    for first in range(0, len(metrics), fitting):
        shown = set(metrics[first : first + fitting])
        rows = tuple(
            replace(
                row,
                figures={m: f for m, f in row.figures.items() if m in shown | {found.lead_in}},
                leads=row.leads if first == 0 else {},
            )
            for row in found.rows
        )
        yield from _without_repeats(replace(found, rows=rows), shown)
        yield ""
    yield from (Text(line) for line in plot_lines(found, min(width, 100) - 2, encoding=encoding))
    yield ""


def _without_repeats(part: Comparison, shown: set[str]) -> Iterator[RenderableType]:
    """Rows keep the metric they are ordered by; where it is not shown, it is taken out again."""
    if part.lead_in in shown:
        yield from comparison_tables(part)
        return
    table = Table(box=None)
    table.add_column("router", no_wrap=True)
    kept = [m for m in metrics_of(part) if m in shown]
    for metric in kept:
        table.add_column(metric, justify="right", no_wrap=True)
    for row in ordered(part):
        cells = [with_spread(row.figures.get(m)) for m in kept]
        table.add_row(row.name, *cells, style="dim" if row.baseline else "")
    yield table
    yield definitions(kept)


def calibration_tables(found: Calibrated) -> Iterator[RenderableType]:
    """What to expect of the setting, and who answers."""
    look, setting = found.outlook, found.setting
    worth = "any price" if math.isinf(setting.worth) else f"{setting.worth:.4g} {setting.unit}"
    yield f"{setting.target}: one unit of quality is worth {worth}"
    table = Table(box=None, pad_edge=False)
    table.add_column(f"on {found.prompts:,} prompts")
    table.add_column("expected", justify="right")
    table.add_column("95 % interval", justify="right")
    table.add_row("quality", f"{look.quality.value:.3f}", _range(look.quality, "{:.3f}"))
    table.add_row(
        f"of {found.best}'s quality", f"{look.share.value:.1%}", _range(look.share, "{:.1%}")
    )
    factor = 1e3 if setting.unit == USD else 1.0
    form = "${:,.4f}" if setting.unit == USD else "{:,.4g}"
    cost = Interval(look.cost.value * factor, look.cost.low * factor, look.cost.high * factor)
    what = "cost per 1k requests" if setting.unit == USD else f"cost ({setting.unit})"
    table.add_row(what, form.format(cost.value), _range(cost, form))
    table.add_row(
        f"of {found.best}'s cost", f"{look.cost_share.value:.1%}", _range(look.cost_share, "{:.1%}")
    )
    table.add_section()
    for model, share in zip(found.artefact.models, look.mix, strict=True):
        table.add_row(f"answered by {model}", f"{share.value:.1%}", _range(share, "{:.1%}"))
    yield table


def _range(i: Interval, form: str) -> str:
    return f"{form.format(i.low)} – {form.format(i.high)}"


def explanation_tables(
    found: Explanation, worth: float | None, costs: Costs | None
) -> Iterator[RenderableType]:
    """Estimates per model, the choice, the words that tipped it, and how familiar the prompt is."""
    usd = costs is not None and costs.unit == USD
    table = Table(box=None, pad_edge=False)
    table.add_column("model", overflow="fold")
    table.add_column("quality ± sd", justify="right", no_wrap=True)
    table.add_column("out tokens", justify="right")
    if costs is not None:
        table.add_column("$ per 1k" if usd else "cost", justify="right", no_wrap=True)
    if worth is not None and math.isfinite(worth):
        table.add_column("utility", justify="right", no_wrap=True)
    for line in sorted(found.lines, key=lambda x: (x.price or 0.0, x.quality)):
        cells = [f"{line.quality:.3f} ± {line.quality_sd:.3f}", f"{line.output_tokens:,.0f}"]
        if line.price is not None:
            cells.append(f"{line.price * (1e3 if usd else 1):,.4g}")
        if line.utility is not None:
            cells.append(f"{line.utility * (1e3 if usd else 1):,.4g}")
        name = f"> {line.model}" if line.chosen else f"  {line.model}"
        table.add_row(name, *cells, style="bold" if line.chosen else "")
    yield table
    yield f"chosen: {found.choice} ({found.reason})"
    if worth is None:
        yield Text(
            "not calibrated: the best expected quality is chosen at any price; "
            "`router calibrate` weighs it against cost",
            style="dim",
        )
    else:
        value = "any price" if math.isinf(worth) else f"{worth:.4g}"
        source = costs.source if costs else ""
        yield Text(f"utility = {value} x quality - price; prices {source}", style="dim")
    pieces = top_pieces(found.pieces)
    if pieces:
        yield f"{found.strong} is expected {found.gap:+.3f} over {found.weak}; leaving out:"
        for piece in pieces:
            text = piece.text if len(piece.text) <= 50 else f"{piece.text[:49]}…"
            yield Text(f"  {found.gap - piece.gap:+.3f}  {' '.join(text.split())}")
    yield _familiarity(found)


def _familiarity(found: Explanation) -> Text:
    near = found.familiarity
    if near is None:
        return Text("how familiar the prompt is: this estimator keeps no prompts to tell by")
    if near.unusual:
        return Text(
            "unlike the training prompts: its nearest one is farther away than theirs are of "
            f"{min(near.share, 0.999):.1%} of them; trust the estimates less",
            style="yellow",
        )
    return Text(
        f"like the training prompts: {near.share:.0%} of them have their nearest neighbour nearer",
        style="dim",
    )


def onboarding_lines(found: Joined, model: str) -> Iterator[RenderableType]:
    """How the new model did and how far its estimates are to be trusted."""
    yield f"{model} joined from {found.probes.size} probes, mean score {found.mean_score:.3f}"
    yield (
        f"expected error on {found.judged_on}: ECE {found.ece:.3f}, Brier {found.brier:.3f} "
        f"(always the probes' mean: {found.brier_of_mean:.3f})"
    )
