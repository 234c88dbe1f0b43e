"""Tokens per dollar as one HTML page that needs nothing else: no scripts, fonts or network.

Everything that a user or a file named is escaped; numbers are formatted here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from orchestrator.html import HUES, document, limit, scroll
from orchestrator.profile_card import profiles_section
from orchestrator.value_report import MARKETS, millions
from orchestrator.valuing import Valuation
from profiler.core import GpuType, Market
from profiler.value import Cell, Size, ValueTable

BASIS = {
    "measured rate": "rate measured at this size",
    "measured": "from a measured step-time law",
    "silicon": "from a published measurement database",
    "roofline": "estimated from catalog numbers",
}


def page(found: Valuation) -> str:
    """The whole document."""
    table = found.table
    parts = [
        _head(table),
        *_panels(found),
        profiles_section(found.profiles),
        _prices(found.gpus),
        _method(table),
    ]
    models = ", ".join(dict.fromkeys(model for model, _ in table.panels))
    return document(f"Tokens per dollar: {models}", "".join(parts))


def _head(table: ValueTable) -> str:
    slo = table.slo
    links = "".join(
        f'<a href="#panel-{i}">{escape(model)} <span>{MARKETS[market]}</span></a>'
        for i, (model, market) in enumerate(table.panels)
    )
    share = f"{slo.attainment * 100:.6g} %"
    return (
        "<header><h1>Tokens per dollar</h1>"
        "<p class=lede>What each GPU type gives for its price, by request size: at the highest "
        f"rate that keeps TTFT within {limit(slo.ttft_s, 's')} and TPOT within "
        f"{limit(slo.tpot_s * 1e3, 'ms')} for <b>{share}</b> of requests.</p>"
        "<p>Prices are one seller's each, of one day; <a href='#prices'>set your own</a> before "
        f"you decide by them.</p><nav>{links}<a href='#profiles'>Profiles</a>"
        "<a href='#prices'>Prices</a><a href='#method'>Method</a></nav></header>"
    )


def _panels(found: Valuation) -> Iterator[str]:
    table = found.table
    hues = {gpu.name: i % HUES for i, gpu in enumerate(found.gpus)}
    for i, (model, market) in enumerate(table.panels):
        yield (
            f'<section id="panel-{i}"><h2>{escape(model)} <span>{MARKETS[market]}</span></h2>'
            f"{_verdict(table, model, market)}"
            f"{_winner_map(table, model, market, hues)}"
            f"<h3>Every GPU type</h3>{_heat_map(table, model, market)}"
            f"{_gaps(table, model, market)}</section>"
        )


def _verdict(table: ValueTable, model: str, market: Market) -> str:
    """Who wins how often, in a sentence."""
    winners = [w for w in table.winners if (w.model, w.market) == (model, market)]
    if not winners:
        return "<p>No GPU type here keeps the limits at any of these sizes.</p>"
    count: dict[str, int] = {}
    for winner in winners:
        count[winner.gpu] = count.get(winner.gpu, 0) + 1
    ranked = sorted(count.items(), key=lambda item: -item[1])
    words = ", ".join(f"<b>{escape(gpu)}</b> {n}" for gpu, n in ranked)
    return f"<p>Best of {len(table.sizes)} sizes: {words}.</p>"


def _winner_map(table: ValueTable, model: str, market: Market, hues: dict[str, int]) -> str:
    """Inputs across, outputs down: the winner of each size and how far it is ahead."""
    inputs = sorted({s.input_tokens for s in table.sizes})
    outputs = sorted({s.output_tokens for s in table.sizes})
    head = "".join(f"<th scope=col>{i:g}</th>" for i in inputs)
    rows = []
    for output in outputs:
        cells = []
        for tokens in inputs:
            size = Size(input_tokens=tokens, output_tokens=output)
            cells.append(_winner_cell(table, model, market, size, hues))
        rows.append(f"<tr><th scope=row>{output:g}</th>{''.join(cells)}</tr>")
    return scroll(
        f"<table class=winners><caption>Winner of each size, and its lead over the next. "
        "Across: input tokens. Down: output tokens.</caption>"
        f"<thead><tr><th></th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


def _winner_cell(
    table: ValueTable, model: str, market: Market, size: Size, hues: dict[str, int]
) -> str:
    if size not in table.sizes:
        return "<td class=none></td>"
    winner = table.winner(model, market, size)
    if winner is None:
        return '<td class=none title="no GPU type keeps the limits">none</td>'
    lead = f"{winner.lead:.2f}× {escape(winner.runner_up or '')}" if winner.lead else "alone"
    replica = f" ×{winner.tensor_parallel}" if winner.tensor_parallel > 1 else ""
    return (
        f'<td class="hue-{hues.get(winner.gpu, 0)}"><b>{escape(winner.gpu)}{replica}</b>'
        f"<small>{lead}</small></td>"
    )


def _heat_map(table: ValueTable, model: str, market: Market) -> str:
    """GPU types down, sizes across, grouped by answer length."""
    sizes = sorted(table.sizes, key=lambda s: (s.output_tokens, s.input_tokens))
    outputs = list(dict.fromkeys(s.output_tokens for s in sizes))
    spans = "".join(
        f"<th scope=colgroup class=first colspan={sum(s.output_tokens == o for s in sizes)}>"
        f"{o:g} output</th>"
        for o in outputs
    )
    firsts = {next(s for s in sizes if s.output_tokens == o) for o in outputs}
    head = "".join(
        f"<th scope=col{' class=first' if s in firsts else ''}>{s.input_tokens:g}</th>"
        for s in sizes
    )
    columns = {s: {c.gpu: c for c in table.row(model, market, s)} for s in sizes}
    best = {s: max((c.tokens_per_usd for c in columns[s].values()), default=0.0) for s in sizes}
    rows = [
        f"<tr><th scope=row>{escape(gpu)}</th>"
        + "".join(_heat_cell(columns[s].get(gpu), best[s], s in firsts) for s in sizes)
        + "</tr>"
        for gpu in table.gpus(model, market)
    ]
    return scroll(
        "<table class=heat><caption>Million tokens per dollar, input and output together. Shade: "
        "share of the best in the column. ×n: GPUs in a replica. ≈: estimated, not measured. "
        "±: median error of the profile's fit.</caption>"
        f"<thead><tr><th></th>{spans}</tr><tr><th>input</th>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _heat_cell(cell: Cell | None, best: float, first: bool) -> str:
    side = " first" if first else ""
    if cell is None or not cell.feasible:
        why = escape(cell.reason or "", quote=True) if cell else "not offered"
        return f'<td class="none{side}" title="{why}">–</td>'
    share = cell.tokens_per_usd / best
    about = "≈" if cell.basis == "roofline" else ""
    notes = [f"×{cell.tensor_parallel}"] if (cell.tensor_parallel or 1) > 1 else []
    notes += [f"±{cell.error:.0%}"] if cell.error is not None else []
    title = (
        f"{cell.rate_rps:.3g} requests/s at ${cell.usd_per_hour:,.2f}/h, "
        f"${cell.usd_per_million_tokens:.3g} per million tokens; {BASIS[cell.basis or 'roofline']}"
    )
    return (
        f'<td class="{"best" if share == 1 else ""}{side}" '
        f'style="--share:{share:.3f}" title="{escape(title, quote=True)}">'
        f"{about}{millions(cell.tokens_per_usd)}<small>{' '.join(notes) or '&nbsp;'}</small></td>"
    )


def _gaps(table: ValueTable, model: str, market: Market) -> str:
    """Each GPU type that cannot serve some sizes, and the limit that breaks."""
    items = []
    for gpu in table.gpus(model, market):
        cells = [c for c in table.cells if (c.model, c.gpu, c.market) == (model, gpu, market)]
        broken = [c for c in cells if not c.feasible]
        if broken:
            items.append(f"<li><b>{escape(gpu)}</b>: {_gap(broken, len(cells))}</li>")
    if not items:
        return ""
    return (
        f"<details><summary>What cannot be served, and why ({len(items)} GPU types)</summary>"
        f"<ul class=gaps>{''.join(items)}</ul></details>"
    )


def _gap(broken: Sequence[Cell], of: int) -> str:
    reasons = {c.reason for c in broken}
    if len(broken) == of and len(reasons) == 1:
        return f"every size: {escape(broken[0].reason or '')}"
    return "; ".join(f"{c.size}: {escape(c.reason or '')}" for c in broken)


def _prices(gpus: Iterable[GpuType]) -> str:
    rows = "".join(
        f"<tr><th scope=row>{escape(g.name)}</th><td>{_usd(g.price.on_demand_usd_per_hour)}</td>"
        f"<td>{_usd(g.price.spot_usd_per_hour)}</td><td>{g.price.as_of}</td>"
        f"<td class=text>{escape(g.price.source)}</td></tr>"
        for g in gpus
    )
    return (
        "<section id=prices><h2>Prices</h2><p>Dollars per GPU and hour in the catalog; a service "
        "file's own prices take their place above. They come from different sellers: set yours in "
        "a catalog file, or in the service file.</p>"
        + scroll(
            "<table class=plain><thead><tr><th class=text>GPU</th><th>on demand</th><th>spot</th>"
            "<th>as of</th><th class=text>source</th></tr></thead>"
            f"<tbody>{rows}</tbody></table>"
        )
        + "</section>"
    )


def _method(table: ValueTable) -> str:
    kinds = sorted({c.basis for c in table.cells if c.basis})
    listed = "".join(f"<li><b>{escape(k)}</b>: {BASIS[k]}</li>" for k in kinds)
    return (
        "<section id=method><h2>Method</h2><p>Tokens per dollar = highest rate × (input + output "
        "tokens) × 3600 ÷ dollars per hour of the replica, as if that rate were kept up all hour. "
        "Compare GPU types along a size; sizes differ in kind, for an input token takes less work "
        "than an output token. The best tensor-parallel size is taken for each cell; where one was "
        "measured, those that are only estimated do not compete with it. Rates come "
        f"from:</p><ul>{listed}</ul></section>"
    )


def _usd(amount: float | None) -> str:
    return "–" if amount is None else f"${amount:,.3f}"
