"""What is asked is told by its size and shape; a family of prompts may have its own slopes."""

import numpy as np

from benchmarks.router_asked import INNER_FOLDS, Parts, asked, ridge


def test_larger_tasks_have_larger_features():
    small = np.array(asked("def f(a): return a\nassert f(1) == ??"))
    large = np.array(
        asked("def f(a):\n    return g(a[1:], 'abc')[0]\nassert f([1, [2, 345]]) == ??")
    )
    assert (large >= small).sum() > large.size - 3
    assert (large > small).sum() > 8
    assert np.isfinite(asked("")).all()


def test_by_family_learns_slopes_that_are_opposite_in_two_families():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(240, 1))
    family = np.eye(2)[np.arange(240) % 2]
    y = x * (family @ np.array([[1.0], [-1.0]])) + 0.1 * rng.normal(size=(240, 1))
    parts = Parts(x[:160], x[160:], family[:160], family[160:])
    fold, worth = np.arange(160) % INNER_FOLDS, np.ones(1)
    apart, error = ridge(parts.by_family(), y[:160], worth, fold)
    together, larger = ridge(parts.shared(), y[:160], worth, fold)
    assert np.corrcoef(apart[:, 0], y[160:, 0])[0, 1] > 0.85
    assert abs(np.corrcoef(together[:, 0], y[160:, 0])[0, 1]) < 0.4
    assert error < larger / 3
