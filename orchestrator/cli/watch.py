"""`top` and `explain request`: what a running pool sees."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli import explain as explaining
from orchestrator.cli.output import Format, OutputOption, emit, stdout

ServiceArgument = Annotated[
    str | None, typer.Argument(help="The service; the only one on this machine otherwise.")
]
UrlOption = Annotated[
    str | None, typer.Option("--url", help="The pool's address, where it is not on this machine.")
]
KeyOption = Annotated[
    str | None,
    typer.Option(
        "--admin-key",
        envvar="ORCHESTRATOR_ADMIN_KEY",
        show_envvar=True,
        help="Where the pool asks for one. Better in the environment than on the command line.",
    ),
]


def top(
    service: ServiceArgument = None,
    url: UrlOption = None,
    admin_key: KeyOption = None,
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Look once and end.")] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Watch a running pool: load, latency, prices, replicas, cost, and the last decisions."""
    from orchestrator.watch_report import frame
    from orchestrator.watching import look, pool_url

    base = pool_url(service, url)
    first = look(base, admin_key)
    console = stdout()
    if once or output is not Format.TABLE or not console.is_terminal:
        emit(first, output, lambda: [frame(first)])
        return
    _watch(base, admin_key, every, first)


def _watch(base: str, key: str | None, every_s: float, first: dict[str, object]) -> None:
    """Redraw until Ctrl-C; a pool that does not answer is named under its last picture."""
    import time

    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from orchestrator.watch_report import frame
    from orchestrator.watching import look
    from profiler.errors import ClusterError

    seen = first
    with Live(frame(seen), screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(every_s)
            try:
                seen = look(base, key)
                live.update(frame(seen), refresh=True)
            except ClusterError as error:
                live.update(Group(frame(seen), Text(), Text(str(error), "red")), refresh=True)


def request(
    request_id: Annotated[
        str, typer.Argument(metavar="ID", help="From x-request-id of the answer, or `top`.")
    ],
    service: Annotated[
        str | None, typer.Option("--service", help="The only one on this machine otherwise.")
    ] = None,
    url: UrlOption = None,
    admin_key: KeyOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Why a request went where it did: what was weighed, chosen, predicted and measured."""
    from orchestrator.watch_report import explained
    from orchestrator.watching import explain, pool_url

    found = explain(pool_url(service, url), request_id, admin_key)
    emit(found, output, lambda: explained(found))


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(top)
    group = typer.Typer(help="Explain what a running pool did.", no_args_is_help=True)
    group.command()(request)
    explaining.add_to(group)
    group.callback()(_group)
    app.add_typer(group, name="explain")


def _group() -> None:
    """Explain what a running pool did."""
