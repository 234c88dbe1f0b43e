"""A plain estimator for comparing policies: TF-IDF, logistic regression, ridge for lengths."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge

from serve_apps.router.estimates import Estimates
from serve_apps.router.evaluation.contenders import Contender, Predict
from serve_apps.router.outcomes import Outcomes
from serve_apps.router.prompts import Prompt


def stand_in() -> Contender:
    """P(right) and expected output tokens of each model, from words and pairs of words."""
    return Contender("TF-IDF + logistic regression", _fit)


def _fit(train: Outcomes, rng: np.random.Generator) -> Predict:  # noqa: ARG001
    words = TfidfVectorizer(sublinear_tf=True, min_df=2, ngram_range=(1, 2))
    x = words.fit_transform([p.text for p in train.prompts])
    right = [LogisticRegression(C=3.0).fit(x, s > 0.5) for s in train.score.T]
    known = np.isfinite(train.output_tokens).all()
    tokens = np.log1p(np.nan_to_num(train.output_tokens))
    lengths = Ridge(1.0).fit(x, tokens)
    # The mean of exp is not exp of the mean: scale so that training means are met.
    scale = np.expm1(tokens).mean(axis=0) / np.maximum(
        np.exp(lengths.predict(x)).mean(axis=0), 1e-9
    )

    def predict(prompts: Sequence[Prompt]) -> Estimates:
        z = words.transform([p.text for p in prompts])
        quality = np.stack([model.predict_proba(z)[:, 1] for model in right], axis=1)
        length = np.exp(lengths.predict(z)) * scale if known else np.full(quality.shape, np.nan)
        return Estimates(train.models, quality, np.zeros(quality.shape), length)

    return predict
