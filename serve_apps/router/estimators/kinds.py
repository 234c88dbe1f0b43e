"""Kinds of prompt that have names: which one a prompt is of, guessed, and how such prompts fare.

An outcome table may say each prompt's subject. A prompt to route says none, but its features do, in
part: linear discriminant analysis (Fisher, 1936; covariance shrunk to its diagonal) gives the
chance of each subject, and what is expected is the subjects' means by these chances.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve_apps.router.estimators.scorer import Floats, Table

Labels = NDArray[np.int64]
PRIOR_PROMPTS = 60.0
"""A subject's mean counts as much as the mean of all at so many of its prompts."""
LEAST_PROMPTS = 10
"""Of a subject, in the mean: with fewer, subjects are names of single prompts."""
SHRUNK = 0.1
"""Part of the covariance that is taken from its diagonal alone."""
PREFIX = "kinds."


def labels_of(table: Table) -> Labels | None:
    """Number of each prompt's subject; None where subjects are no help.

    That is where there is one only, where nearly each prompt has its own, and where folds are by
    subject: what is wanted then is to be right on subjects that have no mean.
    """
    _, labels = np.unique(table.subject, return_inverse=True)
    subjects = int(labels.max()) + 1
    by_subject = np.unique(table.group).size == subjects
    if subjects < 2 or by_subject or labels.size < LEAST_PROMPTS * subjects:
        return None
    return np.asarray(labels, dtype=np.int64)


def fit(x: Floats, labels: Labels, factors: Floats) -> dict[str, NDArray[Any]]:
    """``weights`` [columns, subjects] and ``bias`` of the subjects' log chances, and ``means``
    [subjects, factors], drawn to the mean of all."""
    subjects = int(labels.max()) + 1
    count = np.bincount(labels, minlength=subjects).astype(np.float64)
    present = np.maximum(count, 1)[:, None]
    centres = _sums(labels, x, subjects) / present
    apart = x - centres[labels]
    covariance = apart.T @ apart / len(x)
    scale = np.diag(covariance)
    # A column that never varies within a subject tells nothing here, and must not divide by zero.
    floor = np.diag(SHRUNK * scale + 1e-3 * max(float(scale.mean()), 1e-9))
    weights = np.linalg.solve((1 - SHRUNK) * covariance + floor, centres.T)
    bias = np.log((count + 0.5) / count.sum()) - (centres.T * weights).sum(axis=0) / 2
    overall = factors.mean(axis=0)
    total = _sums(labels, factors, subjects) + PRIOR_PROMPTS * overall
    return {"weights": weights, "bias": bias, "means": total / (count[:, None] + PRIOR_PROMPTS)}


def expected(kinds: Mapping[str, NDArray[Any]], x: Floats) -> Floats:
    """Factors expected of each prompt, ``[prompts, factors]``."""
    return np.asarray(chances(x @ kinds["weights"] + kinds["bias"]) @ kinds["means"])


def chances(logs: Floats) -> Floats:
    """Chances that sum to one over the last axis, from their logarithms."""
    raised = np.exp(logs - logs.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


def held_out(x: Floats, labels: Labels, factors: Floats, fold: Labels) -> Floats:
    """As `expected`, of each fold by the others."""
    found = np.zeros_like(factors)
    for k in np.unique(fold):
        seen, held = fold != k, fold == k
        _, known = np.unique(labels[seen], return_inverse=True)
        found[held] = expected(fit(x[seen], known, factors[seen]), x[held])
    return found


def _sums(labels: Labels, values: Floats, subjects: int) -> Floats:
    found = np.zeros((subjects, values.shape[1]))
    np.add.at(found, labels, values)
    return found
