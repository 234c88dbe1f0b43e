"""The ingress processes of one machine that share a port, each at an address of its own.

Whoever asks the shared port meets any of them; who wants the figures of each, as Prometheus does,
needs to know all.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


class Peers:
    """A directory with a file for each process that listens: its id, and its port."""

    def __init__(self, directory: str | Path) -> None:
        self._directory = Path(directory)
        self._mine: Path | None = None

    def join(self, port: int) -> None:
        """This process answers at ``port`` too."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._mine = self._directory / f"{os.getpid()}-{port}"
        self._mine.touch()

    def leave(self) -> None:
        """It does so no more."""
        if self._mine is not None:
            self._mine.unlink(missing_ok=True)
            self._mine = None

    def addresses(self) -> tuple[str, ...]:
        """``:PORT`` of each; files of processes that ended without a word are removed."""
        found = []
        try:
            names = sorted(p.name for p in self._directory.iterdir())
        except OSError:
            return ()
        for name in names:
            pid, _, port = name.partition("-")
            if not (pid.isdigit() and port.isdigit()):
                continue
            if _runs(int(pid)):
                found.append(f":{port}")
            else:
                with contextlib.suppress(OSError):
                    (self._directory / name).unlink()
        return tuple(found)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
