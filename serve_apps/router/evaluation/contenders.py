"""Who is compared: anything that learns from outcomes and then gives estimates, and baselines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from serve_apps.router.estimates import Estimates, Estimator, FeatureExtractor, Floats
from serve_apps.router.evaluation.splits import hash_splits
from serve_apps.router.outcomes import Outcomes
from serve_apps.router.policies.logistic import fit_logistic
from serve_apps.router.prompts import Prompt

Predict = Callable[[Sequence[Prompt]], Estimates]
Fit = Callable[[Outcomes, np.random.Generator], Predict]


@dataclass(frozen=True)
class Contender:
    """``fit`` learns from the outcomes of a split's training part alone."""

    name: str
    fit: Fit


def learned(name: str, features: FeatureExtractor, estimator: Estimator) -> Contender:
    """A feature extractor and an estimator as one contender."""

    def fit(train: Outcomes, rng: np.random.Generator) -> Predict:
        fitted_features = features.fit(train.prompts)
        fitted = estimator.fit(fitted_features.transform(train.prompts), train, rng)
        return lambda prompts: fitted.estimate(fitted_features.transform(prompts))

    return Contender(name, fit)


def _constant(train: Outcomes, prompts: int) -> Estimates:
    """Each model's training means, for every prompt."""

    def means(values: Floats) -> Floats:
        return np.tile(np.nanmean(values, axis=0), (prompts, 1))

    tokens = np.where(np.isfinite(train.output_tokens), train.output_tokens, 0.0)
    return Estimates(
        train.models, means(train.score), np.zeros((prompts, len(train.models))), means(tokens)
    )


def _random(train: Outcomes, rng: np.random.Generator) -> Predict:
    def predict(prompts: Sequence[Prompt]) -> Estimates:
        known = _constant(train, len(prompts))
        return Estimates(
            known.models, rng.random(known.quality.shape), known.quality_sd, known.output_tokens
        )

    return predict


def _length(train: Outcomes, rng: np.random.Generator) -> Predict:  # noqa: ARG001
    """P(right) of each model by the logarithm of the prompt's length."""
    x = _log_length(train.prompts)
    by_model = []
    for scores in train.score.T:
        known = np.isfinite(scores)
        by_model.append(fit_logistic(x[known], scores[known]))

    def predict(prompts: Sequence[Prompt]) -> Estimates:
        known = _constant(train, len(prompts))
        quality = np.stack([p(_log_length(prompts)) for p in by_model], axis=1)
        return Estimates(known.models, quality, known.quality_sd, known.output_tokens)

    return predict


def _log_length(prompts: Sequence[Prompt]) -> Floats:
    return np.log1p([[len(p.text)] for p in prompts])


RANDOM = Contender("random", _random)
LENGTH = Contender("prompt length", _length)


def cross_fitted(
    contender: Contender, train: Outcomes, rng: np.random.Generator, folds: int = 5
) -> Estimates:
    """Estimates for the training prompts themselves, each from a fit that did not see it."""
    shape = train.score.shape
    quality, sd, tokens = np.empty(shape), np.empty(shape), np.empty(shape)
    for split in hash_splits([p.text for p in train.prompts], folds, seed=7919):
        predict = contender.fit(train.rows(split.train), rng)
        told = predict([train.prompts[i] for i in split.test])
        at = [told.models.index(m) for m in train.models]
        quality[split.test] = told.quality[:, at]
        sd[split.test] = told.quality_sd[:, at]
        tokens[split.test] = told.output_tokens[:, at]
    return Estimates(train.models, quality, sd, tokens)
