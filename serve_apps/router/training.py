"""Outcomes to an artefact."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from profiler.errors import InputError
from serve_apps.router.artefact import Artefact, Description, data_hash
from serve_apps.router.estimates import ChoosesByOutcomes, Estimator
from serve_apps.router.estimators import registry as estimators
from serve_apps.router.estimators.calibrated import CalibratedEstimator
from serve_apps.router.estimators.scorer import Floats, Scorer, State, Table
from serve_apps.router.features.registry import JOIN, build
from serve_apps.router.outcomes import Outcomes
from serve_apps.router.reference import sample

MIN_PROMPTS = 20
DEFAULT_FEATURES = "text"
DEFAULT_ESTIMATOR = "low_rank"
HAND_FIRST = ("hand", "text")
"""Extractors whose first columns are the hand features."""


def train(
    outcomes: Outcomes,
    *,
    features: str = DEFAULT_FEATURES,
    estimator: str = DEFAULT_ESTIMATOR,
    seed: int = 0,
    feature_settings: Mapping[str, Any] | None = None,
    estimator_settings: Mapping[str, Any] | None = None,
    group: str = "prompt",
    isotonic: bool = False,
    on_fold: Callable[[int, int], None] | None = None,
) -> Artefact:
    """Fit features and estimator; everything chosen is chosen by cross-validation inside.

    ``group``: "prompt", or "subject" to be trained for subjects that are not in the data (see
    `CalibratedEstimator`). ``on_fold`` is told how many fits are done, and of how many.

    Raises:
        InputError: too few prompts, or a model without a score.
        UnknownNameError: an unknown name of features or estimator.
    """
    _check(outcomes, group)
    extractor = build(features, feature_settings or {})
    if isinstance(extractor, ChoosesByOutcomes):
        extractor = extractor.chosen(outcomes.prompts, outcomes.score)
    extractor = extractor.fit(outcomes.prompts)
    settings = dict(estimator_settings or {})
    if estimator == "low_rank" and _hand_first(features, feature_settings or {}):
        settings.setdefault("layout", "hand" if group == "prompt" else "hand, unseen")
    made = estimators.build(estimator, settings, group=group, isotonic=isotonic)
    x = extractor.transform(outcomes.prompts)
    rng = np.random.default_rng(seed)
    restore = _watch(made, on_fold) if on_fold is not None else None
    fitted = made.fit(x, outcomes, rng)
    if restore is not None:
        restore(fitted)
    error = fitted.error if isinstance(fitted, CalibratedEstimator) else None
    description = Description(
        models=outcomes.models,
        features=features,
        estimator=estimator,
        data_sha256=data_hash(outcomes),
        prompts=len(outcomes.prompts),
        seed=seed,
        ece=error.ece if error else None,
        brier=error.brier if error else None,
        brier_of_mean=error.brier_of_mean if error else None,
    )
    return Artefact(description, extractor, fitted, sample(x, fitted, outcomes.prompts))


class _Watched(Scorer):
    """A scorer that tells of each fit."""

    name = "watched"

    def __init__(self, scorer: Scorer, on_fit: Callable[[], None]) -> None:
        self._scorer, self._on_fit = scorer, on_fit

    def prepare(self, x: Floats, rng: np.random.Generator) -> State:
        return self._scorer.prepare(x, rng)

    def fit(self, shared: State, table: Table, rng: np.random.Generator) -> State:
        state = self._scorer.fit(shared, table, rng)
        self._on_fit()
        return state

    def predict(self, shared: State, state: State, x: Floats) -> Floats:
        return self._scorer.predict(shared, state, x)


def _watch(made: Estimator, on_fold: Callable[[int, int], None]) -> Callable[[Estimator], None]:
    """Have each fold's fit told of; what is returned takes the watching out of the fitted copy."""
    if not isinstance(made, CalibratedEstimator):
        return lambda _: None
    # One fit per fold, and one on all of them.
    scorer, total, done = made.scorer, made.folds + 1, 0

    def count() -> None:
        nonlocal done
        done += 1
        on_fold(done, total)

    def restore(fitted: Estimator) -> None:
        if isinstance(fitted, CalibratedEstimator):
            fitted.scorer, fitted.name = scorer, scorer.name

    made.scorer = _Watched(scorer, count)
    return restore


def _hand_first(features: str, settings: Mapping[str, Any]) -> bool:
    """Whether the hand features are the first columns."""
    if features == "joined":
        features = str(settings.get("parts", "text+static"))
    return features.split(JOIN)[0] in HAND_FIRST


def _check(outcomes: Outcomes, group: str) -> None:
    if group not in ("prompt", "subject"):
        raise InputError(f"group: found {group!r}, expected 'prompt' or 'subject'")
    different = len({p.text for p in outcomes.prompts})
    if different < MIN_PROMPTS:
        raise InputError(
            f"found {different} different prompts, expected at least {MIN_PROMPTS} to train on"
        )
    known = np.isfinite(outcomes.score)
    empty = [m for i, m in enumerate(outcomes.models) if not known[:, i].any()]
    if empty:
        raise InputError(f"found no score of {', '.join(empty)}; leave such models out")
    if group == "subject" and len(set(outcomes.subject)) < 2:
        raise InputError("group 'subject' needs at least two subjects, found one")
    scores = outcomes.score[known]
    if scores.min() < 0 or scores.max() > 1:
        raise InputError(
            f"found scores from {scores.min():g} to {scores.max():g}, expected them in [0, 1]"
        )
