"""Files a user names, read and replaced; what goes wrong with them is the user's to mend."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path

from profiler.errors import InputError


def read_bytes(path: str | Path) -> bytes:
    """The content of a file.

    Raises:
        InputError: it is missing, is no file, or cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a directory, expected a file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {(error.strerror or '').lower()}") from None
    except ValueError:
        raise InputError(f"{str(path)!r}: not a path") from None


def read_text(path: str | Path) -> str:
    """The text of a UTF-8 file; as `read_bytes` otherwise."""
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start})") from None


def write(path: str | Path, text: str, mode: int | None = None) -> None:
    """Replace a file in one step: write beside it, then rename. A symbolic link is followed.

    ``mode`` is the file's permissions, by default those of any new file.

    Raises:
        InputError: the directory is missing or cannot be written, or the path is no plain file.
    """
    write_bytes(path, text.encode("utf-8"), mode)


def write_bytes(path: str | Path, content: bytes, mode: int | None = None) -> None:
    """Replace a file in one step, as `write` does, with content that is not text."""
    target = writable(path)
    try:
        fd, tmp = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    except OSError as error:
        raise InputError(f"{path}: cannot write here: {error.strerror}") from None
    try:
        with os.fdopen(fd, "wb") as f:
            f.write(content)
        umask = os.umask(0)
        os.umask(umask)
        Path(tmp).chmod(0o666 & ~umask if mode is None else mode)
        Path(tmp).replace(target)
    except OSError as error:
        raise InputError(f"{path}: could not be written: {error.strerror}") from None
    finally:
        Path(tmp).unlink(missing_ok=True)


def writable(path: str | Path) -> Path:
    """Where writing to a path would end up, for looking before long work.

    Raises:
        InputError: there is no such directory, or something that is no plain file stands there.
    """
    try:
        target = Path(path).resolve()
        if not target.parent.is_dir():
            raise InputError(f"{path}: cannot write here: no directory {target.parent}")
        if target.exists() and not stat.S_ISREG(target.stat().st_mode):
            raise InputError(f"{path}: cannot write here: not a plain file")
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"{path}: cannot write here: {error}") from None
    return target


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal; raises as `read_bytes`."""
    return hashlib.sha256(read_bytes(path)).hexdigest()
