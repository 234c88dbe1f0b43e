"""A burst as it goes on: a table that is drawn anew on a terminal, else a line now and then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from orchestrator.surge import RECENT_S, Moment, Surge, attained, refused_share

EVERY_S = 5.0
"""Between two lines where there is no terminal."""


@contextmanager
def showing(console: Console) -> Iterator[Callable[[Surge], None]]:
    """What to call at each look."""
    if console.is_terminal:
        with Live(console=console, refresh_per_second=4) as live:
            yield lambda surge: live.update(drawn(surge))
        return
    said_s = -EVERY_S

    def say(surge: Surge) -> None:
        nonlocal said_s
        now = surge.moments[-1]
        if now.at_s - said_s >= EVERY_S:
            said_s = now.at_s
            console.print(line(surge), markup=False, highlight=False, soft_wrap=True)

    yield say


def line(surge: Surge) -> str:
    """The moment in one line."""
    now = surge.moments[-1]
    fleet = ", ".join(f"{g.name} {g.ready}/{g.wanted}" for g in now.groups)
    return f"{now.at_s:4.0f} s  {_figures(surge, now)};  replicas {fleet}"


def drawn(surge: Surge) -> Group:
    """The moment as a table."""
    now = surge.moments[-1]
    table = Table("group", box=None, pad_edge=False)
    for name in ("ready", "wanted", "price $/h"):
        table.add_column(name, justify="right")
    for g in now.groups:
        ready = Text(str(g.ready), style="yellow" if g.ready < g.wanted else "green")
        table.add_row(g.name, ready, str(g.wanted), f"{g.price_usd_per_hour:,.2f}")
    total_s = sum(s for _, s, _ in surge.phases)
    head = Text(f"{now.at_s:.0f} of about {total_s:.0f} s  {_figures(surge, now)}")
    return Group(head, table)


def _figures(surge: Surge, now: Moment) -> str:
    recent = surge.between(now.at_s - RECENT_S, now.at_s)
    met = attained(recent, surge.slo)
    refused = sum(a.refused for a in surge.burst.answers)
    rate_rps = surge.burst.sent_since(now.at_s - RECENT_S) / min(RECENT_S, max(now.at_s, 1.0))
    return (
        f"{rate_rps:.1f} requests/s, "
        f"{'-' if met is None else f'{met:.0%}'} of those served inside the SLO, "
        f"{now.shed_share:.0%} shed ({refused_share(recent):.0%} refused, {refused} so far)"
    )
