"""Several extractors side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from serve_apps.router.estimates import Arrays, ChoosesByOutcomes, FeatureExtractor
from serve_apps.router.features.embedded import EmbeddedFeatures
from serve_apps.router.prompts import Prompt

Floats = NDArray[np.float64]


class JoinedFeatures:
    """``parts``: names of extractors with ``+`` between, each with its own settings' defaults.

    ``cache_dir`` goes to those that embed: `embedded.EmbeddedFeatures`.
    """

    name = "joined"

    def __init__(
        self,
        parts: str = "text+static",
        made: Sequence[FeatureExtractor] | None = None,
        cache_dir: str = "",
    ) -> None:
        self.parts = parts
        names = parts.split("+") if made is None else []
        self._made = [_made(name, cache_dir) for name in names] if made is None else list(made)

    def fit(self, prompts: Sequence[Prompt]) -> Self:
        """Fit every part."""
        return type(self)(self.parts, [part.fit(prompts) for part in self._made])

    def chosen(self, prompts: Sequence[Prompt], score: Floats) -> Self:
        """Every part that has settings to choose by outcomes chooses them."""
        made = [
            part.chosen(prompts, score) if isinstance(part, ChoosesByOutcomes) else part
            for part in self._made
        ]
        return type(self)(self.parts, made)

    def transform(self, prompts: Sequence[Prompt]) -> Floats:
        """The parts' columns, in order."""
        return np.concatenate([part.transform(prompts) for part in self._made], axis=1)

    def arrays(self) -> Arrays:
        """The parts' names and arrays."""
        kept: dict[str, NDArray[Any]] = {"parts": np.array(self.parts)}
        for i, part in enumerate(self._made):
            kept |= {f"{i}/{name}": value for name, value in part.arrays().items()}
        return kept

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """The extractor these arrays came from."""
        parts = str(arrays["parts"])
        made = [
            _class(name).from_arrays(
                {k.removeprefix(f"{i}/"): v for k, v in arrays.items() if k.startswith(f"{i}/")}
            )
            for i, name in enumerate(parts.split("+"))
        ]
        return cls(parts, made)


def _made(name: str, cache_dir: str) -> FeatureExtractor:
    found = _class(name)
    embeds = isinstance(found, type) and issubclass(found, EmbeddedFeatures)
    made: FeatureExtractor = found(cache_dir=cache_dir) if embeds and cache_dir else found()
    return made


def _class(name: str) -> Any:
    from serve_apps.router.features.registry import feature_class

    return feature_class(name)
