"""Logistic regression finds the coefficients that made the data, and stands missing values."""

from __future__ import annotations

import numpy as np
import pytest

from serve_apps.router.policies.logistic import fit_logistic, logit, side_by_side


def test_it_finds_what_made_the_data() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, (5_000, 2))
    p = 1 / (1 + np.exp(-(0.5 * x[:, 0] - 1.0 * x[:, 1] + 1)))
    model = fit_logistic(x, (rng.random(5_000) < p).astype(float), ridge=1e-3)
    assert model(x) == pytest.approx(p, abs=0.06)
    both = side_by_side([model, model])(x[:3])
    assert both == pytest.approx(np.stack([model(x[:3])] * 2, axis=1))


def test_a_missing_value_reads_as_the_mean() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 1))
    y = (x[:, 0] > 0).astype(float)
    x[:50] = np.nan
    model = fit_logistic(x, y)
    assert model(np.array([[np.nan]])) == pytest.approx(model(model.centre[None]))
    assert model(np.array([[2.0], [-2.0]])) == pytest.approx([1, 0], abs=0.1)


def test_outcomes_all_alike_and_columns_all_alike_give_no_infinities() -> None:
    model = fit_logistic(np.ones((10, 1)), np.ones(10))
    assert 0.8 < float(model(np.array([[1.0]]))[0]) < 1


def test_logit_is_bounded() -> None:
    assert logit(np.array([0.5]))[0] == 0
    assert np.isfinite(logit(np.array([0.0, 1.0]))).all()
