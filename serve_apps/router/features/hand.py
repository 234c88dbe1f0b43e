"""Hand-made features: what a person would look at to guess how hard a prompt is.

Form (length, digits, formulas, code), kind of question (words that ask, choices offered), and
what surrounds the text: system prompt, turns, tools, images.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log, log1p
from typing import Self

import numpy as np
from numpy.typing import NDArray

from serve_apps.router.estimates import Arrays
from serve_apps.router.features.kernel import MOST_SPREADS
from serve_apps.router.features.scan import Scan, scan
from serve_apps.router.features.vocabulary import VOCABULARY
from serve_apps.router.prompts import Prompt

Floats = NDArray[np.float64]

NAMES = (
    "log_bytes", "log_words", "log_lines", "word_length", "word_length_spread", "long_words",
    "digits", "upper", "spaces", "questions", "maths", "latex", "code", "stops", "quotes", "wide",
    "log_numbers", "number_length", "choices", "choice_length", "choice_digits", "stem_length",
    "blank", "distinct_words", "last_line_length",
    *VOCABULARY,
    "log_system_words", "log_turns", "log_tools", "images", "log_pixels", "limited", "log_limit",
)  # fmt: skip
AROUND = 7
"""The last of them: what surrounds the text."""


class HandFeatures:
    """`NAMES` of each prompt, about standardised by the means and spreads of the training data."""

    name = "hand"

    def __init__(self, mean: Floats | None = None, spread: Floats | None = None) -> None:
        """
        Raises:
            ValueError: not one number a feature, which compiled code would read past the end of.
        """
        self.mean = np.zeros(len(NAMES)) if mean is None else _numbers(mean)
        self.spread = np.ones(len(NAMES)) if spread is None else _numbers(spread)

    def fit(self, prompts: Sequence[Prompt]) -> Self:
        """Learn means and spreads; a feature that never varies stays at zero."""
        values = raw_features(prompts, scan([p.text for p in prompts]))
        spread = values.std(axis=0)
        return type(self)(values.mean(axis=0), np.where(spread > 1e-9, spread, np.inf))

    def transform(self, prompts: Sequence[Prompt]) -> Floats:
        """``[prompts, len(NAMES)]``, each within `MOST_SPREADS` of its mean."""
        values = raw_features(prompts, scan([p.text for p in prompts]))
        values -= self.mean
        values /= self.spread
        np.maximum(values, -MOST_SPREADS, out=values)
        return np.minimum(values, MOST_SPREADS, out=values)

    def arrays(self) -> Arrays:
        """Means and spreads."""
        return {"mean": self.mean, "spread": self.spread}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """The extractor these arrays came from."""
        return cls(arrays["mean"], arrays["spread"])


def raw_features(prompts: Sequence[Prompt], scanned: Scan) -> Floats:
    """`NAMES` of each prompt, not standardised."""
    return np.concatenate([scanned.form, around(prompts)], axis=1)


def around(prompts: Sequence[Prompt]) -> Floats:
    """``[prompts, AROUND]``: the last of `NAMES`, not standardised."""
    return np.array([_around(p) for p in prompts]).reshape(len(prompts), AROUND)


def _numbers(told: Floats) -> Floats:
    if told.shape != (len(NAMES),):
        raise ValueError(f"expected {len(NAMES)} numbers, found {told.shape}")
    return np.ascontiguousarray(told, dtype=np.float64)


def _around(p: Prompt) -> tuple[float, ...]:
    return (
        log1p(p.system.count(" ") + 1 if p.system else 0),
        log(max(p.turns, 1)),
        log1p(p.tools),
        float(p.images),
        log1p(p.image_pixels),
        float(p.max_output_tokens is not None),
        log1p(p.max_output_tokens or 0),
    )
