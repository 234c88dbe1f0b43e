"""Builders: outcomes with a planted structure, so that tests know what there is to be found."""

from __future__ import annotations

import numpy as np

from serve_apps.router.estimators.scorer import sigmoid
from serve_apps.router.outcomes import Outcomes
from serve_apps.router.prompts import Prompt

WORDS = ("integral", "matrix", "theorem", "river", "garden", "story", "colour", "friend")


def planted(
    count: int = 300, models: int = 6, seed: int = 0, known: float = 1.0
) -> tuple[Outcomes, np.ndarray]:
    """Outcomes, and the true chance of success of each model on each prompt.

    Prompts with many of the first three words are hard; models differ in strength, and in how
    much hardness hurts. ``known``: share of the scores that are there.
    """
    rng = np.random.default_rng(seed)
    hard = rng.integers(0, 6, count)
    texts = [
        f"question {i}: "
        + " ".join([*rng.choice(WORDS[:3], h), *rng.choice(WORDS[3:], 5 - h)])
        + "?" * int(h % 2)
        for i, h in enumerate(hard)
    ]
    slope = np.linspace(1.6, 0.3, models)
    truth = sigmoid(1.5 - slope * (hard[:, None] - 2.5) + np.linspace(-0.8, 0.8, models))
    score = (rng.random((count, models)) < truth).astype(float)
    score[rng.random(score.shape) > known] = np.nan
    tokens = np.exp(rng.normal(4 + 0.3 * hard[:, None], 0.2, (count, models)))
    unknown = np.full((count, models), np.nan)
    outcomes = Outcomes(
        prompts=tuple(Prompt(t) for t in texts),
        dataset=("d",) * count,
        subject=tuple(f"s{i % 8}" for i in range(count)),
        models=tuple(f"m{i}" for i in range(models)),
        score=score,
        output_tokens=tokens,
        input_tokens=unknown,
        usd=unknown,
    )
    return outcomes, truth
