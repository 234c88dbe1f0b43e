"""Pairwise preferences: which of two models answered a prompt better; and how to fit them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve_apps.router.estimators.scorer import Floats, sigmoid

Integers = NDArray[np.int64]
MAX_PAIRS = 60_000


@dataclass(frozen=True)
class Preferences:
    """``winner`` answered prompt ``row`` better than ``loser``; ``weight``: by how much."""

    row: Integers
    winner: Integers
    loser: Integers
    weight: Floats


def preferences_of(y: Floats, rng: np.random.Generator, per_prompt: int = 12) -> Preferences:
    """Preferences that scores imply: pairs of models, drawn at random, whose scores differ.

    A tie says nothing about who is better, and is left out.
    """
    prompts, models = y.shape
    per_prompt = min(per_prompt, max(1, MAX_PAIRS // max(prompts, 1)))
    if models * (models - 1) // 2 <= per_prompt:
        first, second = np.triu_indices(models, 1)
        row = np.repeat(np.arange(prompts), first.size)
        first, second = np.tile(first, prompts), np.tile(second, prompts)
    else:
        row = np.repeat(np.arange(prompts), per_prompt)
        first = rng.integers(models, size=row.size)
        second = (first + rng.integers(1, models, size=row.size)) % models
    lead = y[row, first] - y[row, second]
    told = np.isfinite(lead) & (lead != 0)
    row, first, second, lead = row[told], first[told], second[told], lead[told]
    ahead = lead > 0
    return Preferences(
        row, np.where(ahead, first, second), np.where(ahead, second, first), np.abs(lead)
    )


def loss_of(strength: Floats, preferences: Preferences) -> tuple[float, Floats]:
    """-log P(winner beats loser), summed, and its gradient in ``strength`` [prompts, models].

    P = sigmoid(strength of the winner - strength of the loser): Bradley and Terry (1952).
    """
    p = preferences
    margin = strength[p.row, p.winner] - strength[p.row, p.loser]
    value = float((p.weight * np.logaddexp(0, -margin)).sum())
    pull: Floats = p.weight * sigmoid(-margin)
    models = strength.shape[1]
    gradient = np.asarray(np.bincount(p.row * models + p.loser, pull, strength.size), np.float64)
    gradient -= np.bincount(p.row * models + p.winner, pull, strength.size)
    return value, gradient.reshape(strength.shape)


def minimise(
    objective: Callable[[Floats], tuple[float, Floats]], start: Floats, steps: int = 100
) -> Floats:
    """L-BFGS from ``start``; ``objective`` gives value and gradient."""
    from scipy.optimize import minimize

    found = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": steps})
    return np.asarray(found.x, dtype=np.float64)
