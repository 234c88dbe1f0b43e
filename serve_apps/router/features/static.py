"""Static token embeddings, averaged: no network to run, some tens of microseconds a prompt.

The weights are WordLlama's (256 dimensions, in its Python package), or those of a model2vec
directory (``model.safetensors`` and ``tokenizer.json``), read as plain tables.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from profiler.errors import InputError
from serve_apps.router.features.embedded import EmbeddedFeatures, Floats, package_file

MAX_CHARACTERS = 8192
MODEL2VEC = "ORCHESTRATOR_MODEL2VEC"


class StaticEmbeddings(EmbeddedFeatures):
    """The mean of the tokens' vectors."""

    name = "static"

    def embed(self, texts: Sequence[str]) -> Floats:
        """``[texts, 256]``; zero for an empty text."""
        return mean_of_tokens(texts, *_word_llama())


class Model2VecEmbeddings(EmbeddedFeatures):
    """As `StaticEmbeddings`, by a model2vec directory in ``ORCHESTRATOR_MODEL2VEC``."""

    name = "model2vec"

    def embed(self, texts: Sequence[str]) -> Floats:
        """``[texts, dimensions of the model]``.

        Raises:
            InputError: the variable is not set, or names no such directory.
        """
        return mean_of_tokens(texts, *_model2vec(os.environ.get(MODEL2VEC, "")))


def mean_of_tokens(texts: Sequence[str], tokenizer: Any, table: NDArray[np.float32]) -> Floats:
    """Mean vector of each text's tokens."""
    found = np.zeros((len(texts), table.shape[1]))
    short = [text[:MAX_CHARACTERS] for text in texts]
    for i, encoding in enumerate(tokenizer.encode_batch(short, add_special_tokens=False)):
        if encoding.ids:
            found[i] = table[encoding.ids].mean(axis=0)
    return found


@cache
def _word_llama() -> tuple[Any, NDArray[np.float32]]:
    return tables(
        package_file("wordllama", "tokenizers", "l2_supercat_tokenizer_config.json"),
        package_file("wordllama", "weights", "l2_supercat_256.safetensors"),
    )


@cache
def _model2vec(directory: str) -> tuple[Any, NDArray[np.float32]]:
    place = Path(directory).expanduser()
    if not directory or not (place / "model.safetensors").exists():
        raise InputError(
            f"{MODEL2VEC}: expected a directory with model.safetensors and tokenizer.json, "
            f"found {directory!r}"
        )
    return tables(place / "tokenizer.json", place / "model.safetensors")


def tables(tokenizer: Path, weights: Path) -> tuple[Any, NDArray[np.float32]]:
    """Tokenizer and token vectors of a static embedding model."""
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    made = Tokenizer.from_file(str(tokenizer))
    made.no_padding()
    made.no_truncation()
    (table,) = load_file(weights).values()
    return made, table.astype(np.float32)
