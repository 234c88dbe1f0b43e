"""What was used, kept in small files that the ingresses of one host share.

Each ingress owns one file, which it alone writes, and reads those of the others. Nothing waits
for a lock on the way of a request, and an ingress that is stopped or killed stops no other; the
next one to start takes its file over, and goes on counting where it ended.

What one ingress admits, others learn within two `sync` periods. Until then each of n ingresses
gives out of a bucket of its own, so at most n - 1 buckets too much; it becomes a debt that is paid
before anything more is given, and the rate in the long run is the limit. A budget is overrun by at
most what all ingresses spend in two periods and what is under way. A kill loses what was used
since the last write.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profiler.errors import InputError
from profiler.files import write
from serve_apps.guard.limits import Totals

log = logging.getLogger("orchestrator.guard")

MODE = 0o600
MAX_INGRESSES = 256


@dataclass(frozen=True, slots=True)
class Kept:
    """One key's line in a file: its totals, and how far its buckets were from full, and when."""

    totals: Totals
    requests_owed: float = 0.0
    tokens_owed: float = 0.0
    at_unix_s: float = 0.0


class UsageFiles:
    """The directory, with one file of our own in it."""

    def __init__(self, directory: str | Path) -> None:
        """Take the first file that no running ingress owns.

        Raises:
            InputError: the directory cannot be made or written, or all files are owned.
        """
        self._directory = Path(directory)
        self._stamps: dict[str, tuple[int, int]] = {}
        self._read: dict[str, dict[str, Kept]] = {}
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock, self.path = self._claim()
        except OSError as error:
            raise InputError(f"{directory}: cannot keep usage here: {error.strerror}") from None

    def mine(self) -> dict[str, Kept]:
        """What our file says, by key id: of us before a restart, or of one that is gone."""
        return self._load(self.path)

    def write(self, used: Mapping[str, Kept]) -> None:
        """Replace our file in one step.

        Raises:
            InputError: it cannot be written.
        """
        data = {key: dataclasses.asdict(kept) for key, kept in used.items()}
        write(self.path, json.dumps({"version": 1, "keys": data}), MODE)

    def others(self) -> Iterator[tuple[str, dict[str, Kept]]]:
        """Each other file's name and content; files that did not change are not read again."""
        for path in sorted(self._directory.glob("usage-*.json")):
            if path == self.path:
                continue
            with contextlib.suppress(OSError):
                seen = path.stat()
                stamp = (seen.st_mtime_ns, seen.st_ino)
                if self._stamps.get(path.name) != stamp:
                    self._read[path.name] = self._load(path)
                    self._stamps[path.name] = stamp
                yield path.name, self._read[path.name]

    def close(self) -> None:
        """Leave our file to whoever comes next."""
        os.close(self._lock)

    def _claim(self) -> tuple[int, Path]:
        for slot in range(MAX_INGRESSES):
            path = self._directory / f"usage-{slot}.json"
            fd = os.open(path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, MODE)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # freed by the kernel at our end
            except BlockingIOError:
                os.close(fd)
            else:
                return fd, path
        raise InputError(f"{self._directory}: {MAX_INGRESSES} ingresses keep usage here already")

    def _load(self, path: Path) -> dict[str, Kept]:
        try:
            data = json.loads(path.read_bytes())["keys"]
            return {key: _kept(line) for key, line in data.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            log.error("%s: not a usage file, left out: %s", path, error)
            return {}


def _kept(line: dict[str, Any]) -> Kept:
    return Kept(**(line | {"totals": Totals(**line["totals"])}))
