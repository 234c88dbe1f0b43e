"""The command line: `orchestrator COMMAND`.

Each command imports what it needs when it runs, so that `--help` is instant. Data goes to
standard output, narration to standard error; exit codes are those of `profiler.errors`.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Annotated

import typer

from orchestrator.cli import (
    autoscale,
    catalog,
    demo,
    deploy,
    emulate,
    keys,
    observe,
    plan,
    profile,
    render,
    router,
    service,
    simulate,
    trace,
    watch,
)
from profiler.errors import OrchestratorError

app = typer.Typer(
    name="orchestrator",
    help="Serve several LLMs on mixed GPUs for the least money: profile, plan, deploy, route.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
INTERRUPTED = 130
ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("llm-orchestrator"))
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


service.add_to(app)
catalog.add_to(app)
trace.add_to(app)
profile.add_to(app)
plan.add_to(app)
router.add_to(app)
simulate.add_to(app)
render.add_to(app)
deploy.add_to(app)
keys.add_to(app)
autoscale.add_to(app)
watch.add_to(app)
observe.add_to(app)
emulate.add_to(app)
demo.add_to(app)


class _Ended(SystemExit):
    """A signal asked for the end: what runs is cleaned up on the way out, as after Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal_name = signal.Signals(number).name


def _listen() -> None:
    """Let SIGTERM and SIGHUP unwind the command, unless whoever started it has them ignored."""
    for number in ENDING_SIGNALS:
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _end)


def _end(number: int, _frame: FrameType | None) -> None:
    for each in ENDING_SIGNALS:  # a second one must not break off the cleaning up
        signal.signal(each, signal.SIG_IGN)
    raise _Ended(number)


def main() -> None:
    """Entry point: run the CLI and turn errors into messages and exit codes."""
    _listen()
    try:
        app(standalone_mode=True)
    except OrchestratorError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
    except _Ended as ended:
        sys.stderr.write(f"ended by {ended.signal_name}\n")
        raise
    except SystemExit as end:  # typer has turned Ctrl-C into one
        if end.code == INTERRUPTED:
            sys.stderr.write("interrupted\n")
        raise
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
