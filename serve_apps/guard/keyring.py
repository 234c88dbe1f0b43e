"""The keys in force: found by id, compared in constant time, read anew when the file changes.

`find` is called on the way of a request and reads nothing; `refresh` may run in another thread.
"""

from __future__ import annotations

import hmac
import logging
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from profiler.errors import InputError
from serve_apps.guard.caller import Caller
from serve_apps.guard.keys import KeyEntry, KeysFile, hash_of, id_of
from serve_apps.guard.keys_file import load_keys

log = logging.getLogger("orchestrator.guard")

CHECK_EVERY_S = 1.0
"""The file is looked at most this often."""
MAX_KEY_CHARS = 256


@dataclass(frozen=True, slots=True)
class Holder:
    """A key's entry, and what the data plane sees of it."""

    entry: KeyEntry
    caller: Caller
    hash: str
    previous_hash: str
    previous_until_s: float
    expires_s: float


class KeyRing:
    """Finds the holder of a key."""

    def __init__(
        self,
        path: str | Path,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        default_deadline_s: float | None = None,
    ) -> None:
        """``default_deadline_s`` is that of keys which have none of their own.

        Raises:
            InputError: the file is missing, malformed, or others can write it.
        """
        self._path = Path(path)
        self._clock = clock
        self._now = now
        self._default_deadline_s = default_deadline_s
        self._stamp = self._look()
        self._looked_at = clock()
        self._holders: dict[str, Holder] = {}
        self._nobody = _nobody()
        self._take(load_keys(self._path))

    @property
    def entries(self) -> Iterable[KeyEntry]:
        """All keys in force."""
        return (h.entry for h in self._holders.values())

    def find(self, key: str) -> Holder | None:
        """Who holds this key; None for an unknown id and for a wrong secret alike.

        One hash and two comparisons are done whatever the key is, and no branch before the end
        depends on the secret: the time tells nothing of how near a guess was.
        """
        digest = hash_of(key[:MAX_KEY_CHARS])
        holder = self._holders.get(id_of(key), self._nobody)
        right = hmac.compare_digest(digest, holder.hash)
        before = hmac.compare_digest(digest, holder.previous_hash)
        if right or (before and self._now() < holder.previous_until_s):
            return holder
        return None

    def refresh(self) -> None:
        """Take in a changed file; one that is broken changes nothing, and the log says so."""
        if self._clock() - self._looked_at < CHECK_EVERY_S:
            return
        self._looked_at = self._clock()
        stamp = self._look()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._take(load_keys(self._path))
        except InputError as error:
            log.error("the keys in force stay as they were: %s", error)
        else:
            log.info("%s: read anew, %d keys", self._path, len(self._holders))

    def _look(self) -> tuple[int, ...] | None:
        try:
            seen = self._path.stat()
        except OSError:
            return None
        return seen.st_mtime_ns, seen.st_size, seen.st_ino, seen.st_mode

    def _take(self, keys: KeysFile) -> None:
        deadline_s = self._default_deadline_s
        self._holders = {entry.id: _holder(entry, deadline_s) for entry in keys.keys}


def _holder(entry: KeyEntry, default_deadline_s: float | None = None) -> Holder:
    caller = Caller(
        tenant=entry.tenant,
        key_id=entry.id,
        weight=entry.weight,
        priority=entry.priority,
        models=frozenset(entry.models) if entry.models is not None else None,
        default_deadline_s=entry.default_deadline_s or default_deadline_s,
    )
    return Holder(
        entry,
        caller,
        entry.hash,
        entry.previous_hash or _unmatched(),
        entry.previous_until.timestamp() if entry.previous_until else float("-inf"),
        entry.expires.timestamp() if entry.expires else float("inf"),
    )


def _nobody() -> Holder:
    """Stands in for the holder of an unknown id: the hash of a secret that nobody ever saw."""
    return _holder(KeyEntry(id="a" * 10, hash=_unmatched(), tenant="nobody"))


def _unmatched() -> str:
    return hash_of(secrets.token_urlsafe(32))
