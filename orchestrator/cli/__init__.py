"""The command line: `orchestrator COMMAND`.

Each command imports what it needs when it runs, so that `--help` is instant. Data goes to
standard output, narration to standard error; exit codes are those of `profiler.errors`.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from orchestrator.cli import catalog, demo, deploy, plan, profile, service, trace
from profiler.errors import OrchestratorError

app = typer.Typer(
    name="orchestrator",
    help="Serve several LLMs on mixed GPUs for the least money: profile, plan, deploy, route.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
INTERRUPTED = 130


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
deploy.add_to(app)
demo.add_to(app)


def main() -> None:
    """Entry point: run the CLI and turn errors into messages and exit codes."""
    try:
        app(standalone_mode=True)
    except OrchestratorError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
