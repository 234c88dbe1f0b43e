"""Processes that a test has started, and whether they are gone."""

from __future__ import annotations

import time
from pathlib import Path

import pytest


def descendants(pid: int) -> set[int]:
    """A process and all that it has started, and they, and so on."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found, grew = {pid}, True
    while grew:
        more = {child for child, parent in parents.items() if parent in found} - found
        grew = bool(more)
        found |= more
    return found


def runs(pid: int) -> bool:
    """Whether a process holds anything still: one that ended and waits for pid 1 does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(") ")[2][0] not in "ZX"


def none_left(pids: set[int]) -> None:
    """Each has ended, if not at once: a killed engine gives its memory back first."""
    deadline = time.monotonic() + 30
    while left := {p for p in pids if runs(p)}:
        if time.monotonic() > deadline:
            pytest.fail(f"processes left: {[Path(f'/proc/{p}/stat').read_text() for p in left]}")
        time.sleep(0.1)
