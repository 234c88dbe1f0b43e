"""What a bandit learned from feedback, kept in a file over restarts of the ingress."""

from __future__ import annotations

import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
OWNER = "owner"
MOST_BYTES = 16 * 2**20
"""A policy's arrays take some kilobytes."""


def keep(path: Path, owner: str, arrays: Arrays) -> None:
    """Write the arrays, whole or not at all.

    ``owner`` says of which policy over which artefact they are: corrections of one artefact's
    estimates are wrong for another's.

    Raises:
        OSError: it cannot be written there.
    """
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        unfinished = Path(file.name)
        try:
            np.savez(file, allow_pickle=False, **{OWNER: np.array(owner)}, **arrays)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
    unfinished.replace(path)


def recall(path: Path, owner: str) -> Arrays | None:
    """The arrays kept for this owner; None where there are none, or they cannot be read.

    A damaged file costs what was learned and must not keep a service from starting.
    """
    try:
        with zipfile.ZipFile(path) as listing:
            if sum(member.file_size for member in listing.infolist()) > MOST_BYTES:
                return None
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            kept = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error):
        return None
    if str(kept.pop(OWNER, "")) != owner:
        return None
    numbers = [a for a in kept.values() if a.dtype.kind == "f"]
    return kept if all(np.isfinite(a).all() for a in numbers) else None
