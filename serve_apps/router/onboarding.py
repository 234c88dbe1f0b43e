"""A new model joins a trained pool from a few probes, chosen for what they tell.

Under the low-rank model a new model's score is mean + factors . loadings + noise: a Bayesian linear
regression on z = (1, factors), which are known already, with the known models' means and loadings
for a prior. An answer to a prompt that is surely easy or surely hard is hardly luck, and counts for
more: its noise is p (1 - p). Each next probe is the prompt that lowers the variance of what is
predicted of all prompts most (V-optimal design by sequential additions; Fedorov, Theory of Optimal
Experiments, 1972).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from profiler.errors import InputError
from serve_apps.router.artefact import Artefact
from serve_apps.router.estimators.calibrated import CalibratedEstimator
from serve_apps.router.estimators.lengths import Lengths
from serve_apps.router.estimators.low_rank import LowRankScorer
from serve_apps.router.estimators.scorer import Floats, State
from serve_apps.router.prompts import Prompt

Rows = NDArray[np.int64]
NOISE = 0.15
"""Variance of a single answer's score about its expectation, where nothing is known of it."""
NOISE_FLOOR = 0.02
"""Added to p (1 - p): expectations are never quite right."""
SURE = 0.95
"""No answer is taken to be surer than this, for its noise."""
LOADING_FLOOR = 1e-3
UNRELATED = 0.1
"""Of the known models' covariance, the part without what relates means and loadings: they are few.
"""
REWEIGHTED = 3
"""Rounds in which expectations and the noise they imply follow each other."""


def choose_probes(
    artefact: Artefact, prompts: Sequence[Prompt], count: int, scores: Floats | None = None
) -> Rows:
    """Positions of the prompts to ask a new model, most telling first.

    ``scores`` [prompts, models of the artefact] (NaN allowed): where the known models' outcomes
    on these prompts are at hand, the factors are read off them instead of off the features.

    Raises:
        InputError: fewer prompts than probes, or an estimator without factors.
    """
    if not 0 < count <= len(prompts):
        raise InputError(f"found {len(prompts)} prompts to choose from, expected at least {count}")
    state, factors = _first_fold(artefact, prompts, scores)
    z, (_, covariance) = _with_one(factors), _prior(state)
    noise = _noise(z @ _table(state).T).mean(axis=1)
    # Mean over prompts of a prediction's variance is the trace of covariance times this.
    second_moment = z.T @ z / len(z)
    left = np.ones(len(z), dtype=bool)
    chosen = []
    for _ in range(count):
        moved = z @ covariance
        doubt = noise + (moved * z).sum(axis=1)
        gain = np.where(left, ((moved @ second_moment) * moved).sum(axis=1) / doubt, -np.inf)
        best = int(gain.argmax())
        left[best] = False
        chosen.append(best)
        covariance = covariance - np.outer(moved[best], moved[best]) / doubt[best]
    return np.array(chosen, dtype=np.int64)


def onboard(
    artefact: Artefact,
    model: str,
    prompts: Sequence[Prompt],
    new_scores: Floats,
    *,
    scores: Floats | None = None,
    output_tokens: Floats | None = None,
) -> Artefact:
    """The artefact with one more model, from its scores on some prompts.

    ``new_scores``, ``output_tokens``: ``[prompts]`` of the new model; ``scores``: the known
    models' on the same prompts, where at hand. The new loadings are drawn towards what the known
    models' loadings have in common, the more the fewer the probes.

    Raises:
        InputError: the model is known already, scores are missing or outside [0, 1], or the
            estimator has no factors.
    """
    if model in artefact.models:
        raise InputError(f"{model!r} is in the artefact already; train it again to replace it")
    y = np.asarray(new_scores, dtype=np.float64)
    if y.shape != (len(prompts),) or not np.all((y >= 0) & (y <= 1)):
        raise InputError(f"expected {len(prompts)} scores in [0, 1], one per probe")
    scorer, estimator = _low_rank(artefact)
    shared, states = estimator.parts()
    x = artefact.features.transform(prompts)
    told = None if scores is None else _told(estimator, states, scores)
    grown = [
        _grown(state, told[k] if told is not None else scorer.factors(shared, [state], x)[0], y)
        for k, state in enumerate(states)
    ]
    lengths = _longer(estimator.lengths, x, output_tokens)
    models = (*artefact.models, model)
    return replace(
        artefact,
        description=replace(
            artefact.description,
            models=models,
            onboarded={**artefact.description.onboarded, model: len(prompts)},
        ),
        estimator=estimator.replaced(models, grown, estimator.calibration.wider(), lengths),
    )


def _low_rank(artefact: Artefact) -> tuple[LowRankScorer, CalibratedEstimator]:
    estimator = artefact.estimator
    if isinstance(estimator, CalibratedEstimator) and isinstance(estimator.scorer, LowRankScorer):
        return estimator.scorer, estimator
    raise InputError(
        f"a model can join an artefact of estimator 'low_rank'; this one has "
        f"{artefact.description.estimator!r}: train it again with the new model's outcomes"
    )


def _first_fold(
    artefact: Artefact, prompts: Sequence[Prompt], scores: Floats | None
) -> tuple[State, Floats]:
    """State and factors of one fold: they have bases of their own, but part the same prompts."""
    scorer, estimator = _low_rank(artefact)
    shared, states = estimator.parts()
    if scores is not None:
        return states[0], _told(estimator, states[:1], scores)[0]
    return states[0], scorer.factors(shared, states[:1], artefact.features.transform(prompts))[0]


def _told(estimator: CalibratedEstimator, states: Sequence[State], scores: Floats) -> list[Floats]:
    """Per fold the posterior mean of each prompt's factors, given the known models' scores."""
    if scores.shape[1] != len(estimator.models):
        raise InputError(
            f"found scores of {scores.shape[1]} models, expected {len(estimator.models)}: "
            f"{', '.join(estimator.models)}"
        )
    known = np.isfinite(scores)
    found = []
    for state in states:
        loadings = state["loadings"]
        rest = np.where(known, scores - state["mean"], 0.0)
        outer = (loadings[:, :, None] * loadings[:, None, :]).reshape(len(loadings), -1)
        rank = loadings.shape[1]
        gram = (known @ outer).reshape(-1, rank, rank) + NOISE * np.eye(rank)
        found.append(np.linalg.solve(gram, (rest @ loadings)[..., None])[..., 0])
    return found


def _grown(state: State, factors: Floats, y: Floats) -> State:
    """The state with the new model's mean and loadings: iteratively reweighted least squares."""
    prior, covariance = _prior(state)
    z, certain = _with_one(factors), np.linalg.inv(covariance)
    found = prior
    for _ in range(REWEIGHTED):
        weighted = z / _noise(z @ found)[:, None]
        found = prior + np.linalg.solve(weighted.T @ z + certain, weighted.T @ (y - z @ prior))
    return {
        **state,
        "mean": np.append(state["mean"], found[0]),
        "loadings": np.vstack([state["loadings"], found[1:]]),
    }


def _table(state: State) -> Floats:
    """Mean and loadings of each known model, ``[models, 1 + rank]``."""
    return np.column_stack([state["mean"], state["loadings"]])


def _prior(state: State) -> tuple[Floats, Floats]:
    """Mean and covariance of the known models' means and loadings."""
    table = _table(state)
    apart = table - table.mean(axis=0)
    covariance = apart.T @ apart / len(table)
    alone = np.diag(np.diag(covariance))
    floor = LOADING_FLOOR * np.eye(len(covariance))
    return table.mean(axis=0), (1 - UNRELATED) * covariance + UNRELATED * alone + floor


def _noise(expected: Floats) -> Floats:
    """Variance of an answer's score about what is expected of it."""
    p = np.clip(expected, 1 - SURE, SURE)
    return np.asarray(p * (1 - p) + NOISE_FLOOR)


def _longer(lengths: Lengths, x: Floats, output_tokens: Floats | None) -> Lengths:
    """The known models' mean regression, scaled to what the new model wrote."""
    weights = np.column_stack([lengths.weights, lengths.weights.mean(axis=1)])
    bias = np.append(lengths.bias, lengths.bias.mean())
    smear = np.append(lengths.smear, lengths.smear.mean())
    longest = np.append(lengths.longest, lengths.longest.max())
    wider = Lengths(weights, bias, smear, longest)
    known = np.zeros(0) if output_tokens is None else output_tokens[np.isfinite(output_tokens)]
    if output_tokens is not None and known.size:
        expected = wider(x[np.isfinite(output_tokens)])[:, -1].mean()
        smear[-1] *= (known.mean() + 1) / (expected + 1)
    return wider


def _with_one(factors: Floats) -> Floats:
    return np.column_stack([np.ones(len(factors)), factors])
