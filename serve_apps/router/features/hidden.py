"""Hidden states of a small language model, from the middle of its layers.

What a model knows about its own answer is best read in the middle (Kadavath et al., Language
Models (Mostly) Know What They Know, arXiv 2207.05221, on P(IK)); training chooses the layer by
`best_layer`, on prompts held out. Costs a forward pass: tens to hundreds of milliseconds on a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Self

import numpy as np

from profiler.catalog import load_catalog
from profiler.weights import local_weights
from serve_apps.router.estimates import Arrays
from serve_apps.router.estimators.scorer import filled
from serve_apps.router.features.embedded import EmbeddedFeatures, Floats, require_torch
from serve_apps.router.features.sentence import by_length
from serve_apps.router.prompts import Prompt

MODEL = "smollm2-135m"
LAYER = 15
"""Where nothing chose one."""
CANDIDATES = 8, 12, 15, 18, 22
SAMPLE = 400
"""Prompts that choose the layer: a pass of each takes about half a second of one core."""


class HiddenStates(EmbeddedFeatures):
    """Mean over the tokens, and the last token, of one layer of `MODEL`; 0: yet to be chosen."""

    name = "hidden"

    def __init__(
        self,
        weight: float = 5.0,
        cache_dir: str = "",
        mean: Floats | None = None,
        layer: int = 0,
    ) -> None:
        super().__init__(weight, cache_dir, mean)
        self.layer = layer

    @property
    def kept_as(self) -> str:
        """Each layer by itself."""
        return f"{self.name}-{self.layer or LAYER}"

    def chosen(self, prompts: Sequence[Prompt], score: Floats) -> Self:
        """The layer that tells these scores best, unless one was given."""
        if self.layer:
            return self
        at = np.unique(np.linspace(0, len(prompts) - 1, SAMPLE).astype(int))
        texts = self.texts([prompts[i] for i in at])
        return type(self)(self.weight, self.cache_dir, layer=best_layer(texts, filled(score)[at]))

    def fit(self, prompts: Sequence[Prompt]) -> Self:
        """Learn the mean of the training prompts."""
        mean = self._embedded(prompts).mean(axis=0)
        return type(self)(self.weight, self.cache_dir, mean, self.layer)

    def embed(self, texts: Sequence[str]) -> Floats:
        """``[texts, 2 * hidden size]``; runs no layer above the one read."""
        return layers(texts, (self.layer or LAYER,))[0]

    def arrays(self) -> Arrays:
        """Weight, mean and layer."""
        return {**super().arrays(), "layer": np.array(self.layer or LAYER)}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """The extractor these arrays came from."""
        return cls(float(arrays["weight"]), "", arrays["mean"], int(arrays["layer"]))


def layers(texts: Sequence[str], wanted: Sequence[int]) -> list[Floats]:
    """Per wanted layer (1 is the first) ``[texts, 2 * hidden size]``, from one pass.

    Raises:
        InputError: torch, transformers or the weights are not installed.
    """
    require_torch()
    import torch

    tokenizer, model = _small_lm(max(wanted))
    found = [np.zeros((len(texts), 2 * model.config.hidden_size)) for _ in wanted]
    with torch.inference_mode():
        for at, batch in by_length(tokenizer, texts):
            states = model(**batch, output_hidden_states=True).hidden_states
            mask = batch["attention_mask"][..., None]
            last = batch["attention_mask"].sum(1) - 1
            rows = torch.arange(len(at))
            for i, layer in enumerate(wanted):
                mean = (states[layer] * mask).sum(1) / mask.sum(1)
                found[i][at] = torch.cat([mean, states[layer][rows, last]], 1).double().numpy()
    return found


def best_layer(texts: Sequence[str], target: Floats, candidates: Sequence[int] = CANDIDATES) -> int:
    """The layer from which a ridge regression tells ``target`` [texts, columns] best.

    Every fourth text is held out; ``target`` has no NaN.
    """
    held = np.arange(len(texts)) % 4 == 0
    errors = []
    for states in layers(texts, candidates):
        x = states - states[~held].mean(axis=0)
        x = x / np.maximum(np.sqrt((x * x).sum(axis=1, keepdims=True)), 1e-9)
        y = target - target[~held].mean(axis=0)
        kernel = x[~held] @ x[~held].T + np.eye(int((~held).sum()))
        guess = x[held] @ x[~held].T @ np.linalg.solve(kernel, y[~held])
        errors.append(float(((guess - y[held]) ** 2).mean()))
    return candidates[int(np.argmin(errors))]


@cache
def _small_lm(top: int) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModel, AutoTokenizer

    place = local_weights(load_catalog().model(MODEL))
    tokenizer = AutoTokenizer.from_pretrained(place, local_files_only=True, padding_side="right")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model = AutoModel.from_pretrained(place, local_files_only=True).eval()
    # The layer read is the last that runs; the norm after it would be that of the whole model.
    model.layers = model.layers[:top]
    model.norm = torch.nn.Identity()
    return tokenizer, model
