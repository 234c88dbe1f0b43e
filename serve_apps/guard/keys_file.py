"""The keys file on disk: read with a look at who may write it, changed by one at a time."""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import logging
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from profiler import documents
from profiler.errors import InputError, UnknownNameError
from serve_apps.guard.keys import KeyEntry, KeysFile, hash_of, new_id, new_key, utc_now

log = logging.getLogger("orchestrator.guard")

MODE = 0o600
HEADER = (
    "# API keys, as hashes. Managed by `orchestrator keys`, which keeps no comments: use `note`.\n"
)


def load_keys(path: str | Path) -> KeysFile:
    """Read a keys file.

    Others may read it (it holds hashes; a warning says so), nobody else may write it.

    Raises:
        InputError: it is missing, malformed, or others can write it.
    """
    try:
        mode = stat.S_IMODE(Path(path).stat().st_mode)
    except OSError:
        mode = MODE  # the reader says what is wrong
    if mode & 0o022:
        raise InputError(
            f"{path}: others can write this file (mode {mode:o}), and so make keys; "
            f"mend it with: chmod 600 {path}"
        )
    if mode & 0o004:
        log.warning("%s: anyone on this machine can read it; better: chmod 600 %s", path, path)
    return documents.read(path, KeysFile)


def create(path: Path, entry: Callable[[str, str], KeyEntry]) -> tuple[str, KeyEntry]:
    """Add a key, to a new file where there is none: the key itself, and what is kept of it.

    ``entry`` is called with the id and the hash.

    Raises:
        InputError: as `load_keys`, or the file cannot be written.
    """
    with _alone(path):
        old = load_keys(path) if path.exists() else KeysFile()
        key_id = new_id()
        key = new_key(key_id)
        added = entry(key_id, hash_of(key))
        _write(path, KeysFile(keys=(*old.keys, added)))
    return key, added


def revoke(path: Path, key_id: str) -> KeyEntry:
    """Disable a key, its predecessor too. The entry stays, so that its use can be told.

    Raises:
        InputError: as `load_keys`; UnknownNameError: there is no such key.
    """
    gone: dict[str, object] = {"disabled": True, "previous_hash": None, "previous_until": None}
    with _alone(path):
        return _change(path, key_id, gone)


def rotate(path: Path, key_id: str, grace: dt.timedelta) -> str:
    """A new secret for a key; the old one is good for ``grace`` longer. Id and limits stay.

    Raises:
        InputError: as `load_keys`, or the key is disabled; UnknownNameError: no such key.
    """
    key = new_key(key_id)
    with _alone(path):
        old = _entry(load_keys(path), key_id, path)
        if old.disabled:
            raise InputError(f"key {key_id} is disabled; create a new one")
        previous = {"previous_hash": old.hash, "previous_until": utc_now() + grace}
        _change(path, key_id, {"hash": hash_of(key), **previous})
    return key


def _change(path: Path, key_id: str, update: dict[str, object]) -> KeyEntry:
    found = load_keys(path)
    old = _entry(found, key_id, path)
    new = KeyEntry.model_validate(old.model_dump() | update)
    _write(path, KeysFile(keys=tuple(new if e.id == key_id else e for e in found.keys)))
    return new


def _entry(keys: KeysFile, key_id: str, path: Path) -> KeyEntry:
    for entry in keys.keys:
        if entry.id == key_id:
            return entry
    mend = f"(orchestrator keys list --file {path})"
    raise UnknownNameError("key", key_id, [e.id for e in keys.keys], mend=mend)


def _write(path: Path, keys: KeysFile) -> None:
    data = keys.model_dump(mode="json", exclude_defaults=True)
    text = HEADER + documents.dump_data({"version": keys.version, "keys": data.get("keys", [])})
    documents.parse(text, KeysFile, str(path))  # what is written can be read
    documents.write(path, text, MODE)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """No two commands change a file at once: each would lose what the other did."""
    lock = path.resolve().with_name(f".{path.name}.lock")
    try:
        fd = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, MODE)
    except OSError as error:
        raise InputError(f"{path}: cannot write here: {error.strerror}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
