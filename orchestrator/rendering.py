"""Rendered files into a directory: all or none, and nothing of the user's replaced unasked."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from profiler import documents
from profiler.errors import InputError


def changed_files(directory: Path, files: Mapping[str, str]) -> list[str]:
    """Files that are there with other content, by relative path."""
    return [n for n, text in files.items() if _differs(directory / n, text)]


def write_tree(directory: Path, files: Mapping[str, str], *, replace: bool) -> int:
    """Write the files under a directory; how many were written, those that were the same apart.

    A directory that is not there appears complete or not at all. In one that is there each file is
    replaced in one step, and files that are not ours are left alone.

    Raises:
        InputError: files with other content are there and ``replace`` is not given, or the
            directory cannot be written.
    """
    if directory.exists() and not directory.is_dir():
        raise InputError(f"{directory}: is a file, expected a directory")
    changed = changed_files(directory, files)
    if changed and not replace:
        shown = ", ".join(changed[:3]) + (", ..." if len(changed) > 3 else "")
        raise InputError(f"{directory}: holds other content ({shown}); pass -y to replace it")
    try:
        if not directory.exists():
            _write_new(directory, files)
            return len(files)
        wanted = {n: t for n, t in files.items() if not (directory / n).exists() or n in changed}
        for name, text in wanted.items():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            documents.write(directory / name, text)
        return len(wanted)
    except OSError as error:
        raise InputError(f"{directory}: cannot be written: {error.strerror}") from None


def _write_new(directory: Path, files: Mapping[str, str]) -> None:
    directory.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}."))
    try:
        for name, text in files.items():
            (made / name).parent.mkdir(parents=True, exist_ok=True)
            (made / name).write_text(text, encoding="utf-8")
        made.chmod(0o755)
        made.rename(directory)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _differs(path: Path, text: str) -> bool:
    return path.exists() and documents.read_text(path) != text
