"""The telling end of an engine's log: its last lines, and the exception that ended it."""

from __future__ import annotations

import re
from pathlib import Path

TAIL_LINES = 30
TAIL_BYTES = 256 * 1024

_PREFIX = re.compile(
    r"^(\([^)]*pid=\d+\)\s*)?((DEBUG|INFO|WARNING|ERROR|CRITICAL) \S+ \S+ \[[^\]]*\] ?)?"
)
_EXCEPTION = re.compile(r"^([A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt))(: .*|)$")
_USAGE = re.compile(r"^\S+: error: .*")
_CONSEQUENCE = re.compile(r"Engine core initialization failed|WorkerProc initialization failed")


def tail(path: Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a log, without vLLM's process prefixes; empty when there is none."""
    return "\n".join(_last_lines(path)[-lines:])


def cause(path: Path) -> str | None:
    """The exception or usage error that ended the engine, in one line; None when none is found.

    vLLM reports a failure once per process, ending with a summary that names no cause, so the
    last exception that is not such a summary is the one that tells.
    """
    found = [line for line in _last_lines(path) if _EXCEPTION.match(line) or _USAGE.match(line)]
    telling = [line for line in found if not _CONSEQUENCE.search(line)]
    return (telling or found)[-1] if found else None


def _last_lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as log:
            log.seek(0, 2)
            log.seek(max(0, log.tell() - TAIL_BYTES))
            text = log.read().decode(errors="replace")
    except OSError:
        return []
    return [_PREFIX.sub("", line).rstrip() for line in text.splitlines() if line.strip()]
