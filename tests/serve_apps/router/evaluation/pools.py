"""Builders for evaluation tests: outcomes in which the prompt tells who is right."""

from __future__ import annotations

from typing import Any

import numpy as np

from serve_apps.router.outcomes import Outcomes
from serve_apps.router.prompts import Prompt

MODELS = ("small", "large")


def outcomes(count: int = 120, seed: int = 0, **changes: Any) -> Outcomes:
    """Half the prompts are easy (both right), half hard (only the large model is)."""
    rng = np.random.default_rng(seed)
    hard = rng.random(count) < 0.5
    settings: dict[str, Any] = {
        "prompts": tuple(
            Prompt(f"{'hard' if h else 'easy'} {i} {'x' * int(rng.integers(40))}")
            for i, h in enumerate(hard)
        ),
        "dataset": ("d",) * count,
        "subject": tuple(f"s{i % 4}" for i in range(count)),
        "models": MODELS,
        "score": np.stack([~hard, np.ones(count)], axis=1).astype(float),
        "output_tokens": np.full((count, 2), 10.0),
        "input_tokens": np.full((count, 2), 5.0),
        "usd": np.full((count, 2), np.nan),
        "answer": np.stack([np.where(hard, "7", "4"), np.full(count, "4")], axis=1),
    }
    return Outcomes(**(settings | changes))
