"""A lead that is real is told from one that is luck."""

from __future__ import annotations

import numpy as np

from serve_apps.router.evaluation.bootstrap import Difference, paired_bootstrap


def lead_of(ours: np.ndarray, theirs: np.ndarray) -> Difference:
    return paired_bootstrap(
        lambda rows: float(ours[rows].mean() - theirs[rows].mean()),
        len(ours),
        np.random.default_rng(1),
        draws=200,
    )


def test_a_constant_lead_is_certain_however_noisy_the_scores() -> None:
    theirs = np.random.default_rng(0).normal(0, 50, 30)
    found = lead_of(theirs + 1, theirs)
    assert round(found.low, 9) == round(found.high, 9) == round(found.value, 9) == 1.0
    assert found.p_not_better == 0.0


def test_noise_alone_is_no_lead() -> None:
    rng = np.random.default_rng(0)
    found = lead_of(rng.normal(size=200), rng.normal(size=200))
    assert found.low < 0 < found.high
    assert 0.02 < found.p_not_better < 0.98


def test_the_interval_is_as_wide_as_theory_says() -> None:
    ours = np.random.default_rng(0).normal(size=400)
    found = lead_of(ours, np.zeros(400))
    expected = 2 * 1.96 * ours.std() / 20
    assert 0.75 * expected < found.high - found.low < 1.25 * expected


def test_draws_without_a_value_are_left_out() -> None:
    found = paired_bootstrap(lambda _: float("nan"), 3, np.random.default_rng(0), draws=5)
    assert np.isnan(found.p_not_better)
