"""The reasons behind a plan, for a terminal: a few lines, or all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from placement.explanation import LimitUse, Loser, Marginal, Use
from placement.plan import Plan

CENT = 0.005
PER_1000_REQUESTS = 1000 / 3600
"""From $/h per request/s to dollars per thousand requests."""


def brief(plan: Plan) -> Iterator[RenderableType]:
    """What each GPU type is for, why the others lost, what binds, what would save."""
    told = plan.explanation
    if told is None:
        return
    grid = _grid()
    for use in told.uses:
        grid.add_row(use.gpu, use_line(use))
    for loser in told.losers:
        grid.add_row(loser.gpu, loser.reason)
    grid.add_row("binds", binds_line(told.limits))
    grid.add_row("would save", saving_line(told.marginals))
    yield grid


def full(plan: Plan) -> Iterator[RenderableType]:
    """Everything that the explanation holds."""
    told = plan.explanation
    if told is None:
        return
    yield _headed("used for", _uses(told.uses))
    if told.losers:
        yield Text()
        yield _headed("not rented", _losers(told.losers))
    yield Text()
    yield _headed("limits", _limits(told.limits))
    yield Text()
    yield _headed("what a little more would save", _marginals(told.marginals))
    if plan.prices is not None:
        yield Text()
        yield _headed("prices that the router weighs by", _prices(plan))


def use_line(use: Use) -> str:
    """What a GPU type serves, in words."""
    return (
        f"serves {use.request_share:.0%} of requests, {use.token_share:.0%} of tokens: {use.words} "
        f"(mean {use.input_tokens:,.0f} in, {use.output_tokens:,.0f} out)"
    )


def binds_line(limits: Sequence[LimitUse]) -> str:
    """The limits that bind, in words."""
    full = [x for x in limits if x.binds and x.limit.startswith("headroom of ")]
    said = [x.words for x in limits if x.binds and x not in full]
    at: dict[str, list[str]] = {}
    for x in full:
        at.setdefault(f"{x.allowed:.0%}", []).append(x.limit.removeprefix("headroom of "))
    said += [f"full to the headroom of {part}: {', '.join(names)}" for part, names in at.items()]
    return "; ".join(said) or "nothing but that replicas come whole"


def saving_line(marginals: Sequence[Marginal]) -> str:
    """What moving a limit would save, the most first."""
    marginals = [m for m in marginals if saving(m) is not None]
    worth = [m for m in marginals if (saving(m) or 0.0) >= CENT]
    if not worth:
        return f"nothing of {_listed([m.change for m in marginals])}" if marginals else "nothing"
    parts = []
    for m in sorted(worth, key=lambda m: -(saving(m) or 0.0)):
        if m.resolved_usd_per_hour is not None:
            parts.append(f"{m.change}: ${m.resolved_usd_per_hour:,.2f}/h")
        else:
            parts.append(f"{m.change}: ${saving(m):,.2f}/h by its shadow price")
    return "; ".join(parts)


def saving(marginal: Marginal) -> float | None:
    """The figure for this plan where it is known, else that of the duals."""
    resolved = marginal.resolved_usd_per_hour
    return marginal.shadow_usd_per_hour if resolved is None else resolved


def _uses(uses: Sequence[Use]) -> Table:
    table = _table("GPU", "requests", "tokens", "mean in", "mean out", "$/h", "what")
    for u in uses:
        table.add_row(
            u.gpu,
            f"{u.request_share:.1%}",
            f"{u.token_share:.1%}",
            f"{u.input_tokens:,.0f}",
            f"{u.output_tokens:,.0f}",
            f"{u.usd_per_hour:,.2f}",
            u.words,
        )
    return table


def _losers(losers: Sequence[Loser]) -> Table:
    table = _table("GPU", "with one", "why")
    for loser in losers:
        forced = loser.forced_usd_per_hour
        table.add_row(loser.gpu, "-" if forced is None else f"{forced:+,.2f} $/h", loser.reason)
    table.caption = (
        "The price at which one would pay is that of the fractional optimum. With one: what the "
        "best plan that rents at least one costs more."
    )
    return table


def _limits(limits: Sequence[LimitUse]) -> Table:
    table = _table("", "limit", right=())
    for limit in limits:
        table.add_row("BINDS" if limit.binds else "", limit.words)
    return table


def _marginals(marginals: Sequence[Marginal]) -> Table:
    table = _table("change", "fractional $/h", "this plan $/h", "")
    for m in marginals:
        table.add_row(
            m.change,
            _money(m.shadow_usd_per_hour),
            _money(m.resolved_usd_per_hour),
            m.note,
        )
    table.caption = (
        "Fractional: the most that the optimum with fractional replicas could fall, by its duals. "
        "This plan: planned again with the limit moved."
    )
    return table


def _prices(plan: Plan) -> Table:
    assert plan.prices is not None
    table = _table("of", "price", "unit", right=(1,))
    for stream, worth in plan.prices.quality.items():
        value = f"{worth * PER_1000_REQUESTS / 100:,.4f}"
        table.add_row(f"quality, {stream}", value, "$ per point of quality in 1,000 answers")
    for group, price in plan.prices.load.items():
        table.add_row(group, f"{price:,.2f}", "$/h for a replica kept at saturation")
    return table


def _headed(title: str, table: Table) -> Table:
    table.title, table.title_justify, table.title_style = title, "left", "bold"
    table.caption_justify, table.caption_style = "left", "dim"
    return table


def _table(*headers: str, right: Sequence[int] | None = None) -> Table:
    """Plain columns; all but the first and last are figures unless told otherwise."""
    table = Table(box=None, pad_edge=False)
    for i, header in enumerate(headers):
        figure = 0 < i < len(headers) - 1 if right is None else i in right
        last = i == len(headers) - 1
        table.add_column(
            header,
            justify="right" if figure else "left",
            overflow="fold",
            no_wrap=not last and not figure,
        )
    return table


def _grid() -> Table:
    grid = Table.grid(padding=(0, 2), pad_edge=False)
    grid.add_column(no_wrap=True, style="bold")
    grid.add_column(overflow="fold")
    return grid


def _money(usd: float | None) -> str:
    return "-" if usd is None else f"{usd:,.2f}"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} or {parts[-1]}"
