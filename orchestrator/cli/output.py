"""How commands speak: data on standard output, all else on standard error."""

from __future__ import annotations

import enum
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


QUIET_S = 5.0


class Format(enum.StrEnum):
    """What `-o` takes."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


OutputOption = Annotated[Format, typer.Option("--output", "-o", help="How to print the result.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; replace files.")]


def emit(data: Any, fmt: Format, table: Callable[[], Sequence[RenderableType]]) -> None:
    """Print plain data as JSON or YAML, or what ``table`` renders."""
    if fmt is Format.JSON:
        sys.stdout.write(json.dumps(data, indent=2) + "\n")
    elif fmt is Format.YAML:
        from profiler.documents import dump_data

        sys.stdout.write(dump_data(data))
    else:
        console = stdout()
        for part in table():
            console.print(part)
    sys.stdout.flush()  # whoever reads a pipe must not wait until a command that stays has ended


def stdout() -> Console:
    """The console for data; as wide as needed when it is not a terminal, so nothing is cut."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=False, width=None if sys.stdout.isatty() else 140)


def stderr() -> Console:
    """The console for narration."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def say(message: str) -> None:
    """One line of narration."""
    stderr().print(message, markup=False, soft_wrap=True)


Steps = Callable[[str], AbstractContextManager[Callable[[str], None]]]


@contextmanager
def steps(title: str) -> Iterator[Callable[[str], None]]:
    """A spinner that names the step under way; without a terminal, a line now and then."""
    console = stderr()
    if not console.is_terminal:
        say(f"{title} ...")
        yield _now_and_then(title)
        return
    with console.status(title) as status:
        yield lambda step: status.update(f"{title}: {step}")


def _now_and_then(title: str) -> Callable[[str], None]:
    """Narrate one of many steps every few seconds."""
    said_s = time.monotonic()

    def step(name: str) -> None:
        nonlocal said_s
        if time.monotonic() - said_s >= QUIET_S:
            said_s = time.monotonic()
            say(f"{title}: {name}")

    return step


def confirm(question: str, *, yes: bool) -> bool:
    """Ask, unless told not to; without a terminal the answer is no and the mend is named."""
    if yes:
        return True
    if not sys.stdin.isatty():
        say(f"{question} Not asking without a terminal; pass -y to go on.")
        return False
    return typer.confirm(question, err=True)


def refuse_to_overwrite(path: Path, *, yes: bool) -> None:
    """Before long work: a file that is there is only replaced when asked to.

    Raises:
        InputError: it is there, or could not be written.
    """
    from profiler.errors import InputError
    from profiler.files import writable

    if writable(path).exists() and not yes:
        raise InputError(f"{path} exists already; pass -y to replace it")


def usd(amount: float | None, digits: int = 2) -> str:
    """Dollars for a table."""
    return "-" if amount is None else f"${amount:,.{digits}f}"
