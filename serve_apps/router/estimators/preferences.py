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
    """Preferences that scores imply: pairs of models that were run on a prompt and differ there.

    All pairs of a prompt, or ``per_prompt`` drawn at random where there are more. A tie says
    nothing about who is better, and is left out.
    """
    per_prompt = min(per_prompt, max(1, MAX_PAIRS // max(len(y), 1)))
    known = np.isfinite(y)
    # Of each prompt the models that were run, before the others.
    run = np.argsort(~known, axis=1, kind="stable")
    count = known.sum(axis=1)
    parts = [
        _pairs(np.flatnonzero(count == k), run[count == k, :k], per_prompt, rng)
        for k in np.unique(count[count > 1]).tolist()
    ]
    none = np.zeros((3, 0), dtype=np.int64)
    row, first, second = np.concatenate([none, *parts], axis=1)
    lead = y[row, first] - y[row, second]
    told = lead != 0
    row, first, second, lead = row[told], first[told], second[told], lead[told]
    ahead = lead > 0
    return Preferences(
        row, np.where(ahead, first, second), np.where(ahead, second, first), np.abs(lead)
    )


def _pairs(rows: Integers, run: Integers, per_prompt: int, rng: np.random.Generator) -> Integers:
    """``[3, pairs]``: prompt and two models; ``run`` [rows, k]: which models these prompts have."""
    k = run.shape[1]
    if k * (k - 1) // 2 <= per_prompt:
        one, other = (np.tile(at, (len(rows), 1)) for at in np.triu_indices(k, 1))
    else:
        one = rng.integers(k, size=(len(rows), per_prompt))
        other = (one + rng.integers(1, k, size=one.shape)) % k
    of = np.arange(len(rows))[:, None]
    row = np.repeat(rows, one.shape[1])
    return np.stack([row, run[of, one].ravel(), run[of, other].ravel()])


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
