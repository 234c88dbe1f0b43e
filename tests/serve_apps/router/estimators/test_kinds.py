"""Subjects of the training prompts are guessed of others, and their means expected there."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from serve_apps.router.estimators import kinds
from serve_apps.router.estimators.low_rank import LowRankScorer
from serve_apps.router.estimators.scorer import Table

SUBJECTS, COLUMNS = 6, 12


def planted(count: int, seed: int = 0):
    """Features about a centre of their subject, and two factors that depend on it alone."""
    rng = np.random.default_rng(0)
    centres, means = rng.normal(size=(SUBJECTS, COLUMNS)) * 3, rng.normal(size=(SUBJECTS, 2))
    rng = np.random.default_rng(seed + 1)
    labels = rng.integers(SUBJECTS, size=count)
    x = centres[labels] + rng.normal(size=(count, COLUMNS))
    return x, labels, means[labels] + rng.normal(0, 0.1, (count, 2)), means


def table(x, labels, y=None, group=None):
    names = np.array([f"subject {k}" for k in labels])
    scores = np.zeros((len(x), 2)) if y is None else y
    return Table(x, scores, names, np.arange(len(x)) if group is None else group)


def test_the_means_of_subjects_are_found_where_only_features_tell_them():
    x, labels, factors, _ = planted(900)
    new, of, _, means = planted(200, seed=5)
    found = kinds.expected(kinds.fit(x, labels, factors), new)
    # Means are drawn to that of all, by 60 prompts to the 150 of each subject.
    shrunk = (150 * means + 60 * factors.mean(axis=0)) / 210
    assert np.abs(found - shrunk[of]).mean() < 0.05


@given(arrays(np.float64, (3, 5), elements=st.floats(-700, 700)))
def test_chances_are_chances(logs):
    found = kinds.chances(logs)
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_a_column_that_never_varies_changes_nothing():
    x, labels, factors, _ = planted(300)
    wide = np.column_stack([x, np.full(len(x), 7.0)])
    found = [kinds.expected(kinds.fit(a, labels, factors), a) for a in (x, wide)]
    np.testing.assert_allclose(found[0], found[1], atol=1e-4)


def test_what_is_held_out_is_not_looked_at():
    x, labels, factors, _ = planted(120)
    fold = np.arange(120) % 3
    before = kinds.held_out(x, labels, factors, fold)
    changed = np.where((fold == 1)[:, None], factors + 9, factors)
    np.testing.assert_allclose(
        kinds.held_out(x, labels, changed, fold)[fold == 1], before[fold == 1]
    )


def test_subjects_are_of_no_help_where_there_is_one_or_each_prompt_has_its_own():
    x, labels, _, _ = planted(120)
    assert kinds.labels_of(table(x, labels)) is not None
    assert kinds.labels_of(table(x, 0 * labels)) is None
    assert kinds.labels_of(table(x, np.arange(120))) is None


def test_a_router_for_unseen_subjects_learns_none():
    x, labels, _, _ = planted(120)
    assert kinds.labels_of(table(x, labels, group=labels)) is None


def test_the_scorer_uses_subjects_where_they_tell_more_than_the_features_and_else_does_not():
    x, labels, factors, _ = planted(600)
    rng = np.random.default_rng(3)
    told = (rng.random((600, 2)) < 0.5 + 0.4 * np.tanh(factors)).astype(float)
    lucky = (rng.random((600, 2)) < 0.5).astype(float)
    scorer = LowRankScorer(landmarks=16)
    shared = scorer.prepare(x, np.random.default_rng(0))
    used = [
        "kinds.means" in scorer.fit(shared, table(x, labels, y), np.random.default_rng(1))
        for y in (told, lucky)
    ]
    assert used == [True, False]
