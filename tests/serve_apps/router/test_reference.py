"""An artefact keeps what its calibration prompts looked like, and tells it after loading."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from serve_apps.router.artefact import load_artefact
from serve_apps.router.difficulty import bins_of
from tests.router_builders import easy_and_hard


def test_reference_estimates_survive_saving_and_were_held_out(tmp_path: Path) -> None:
    from serve_apps.router.training import train

    outcomes = easy_and_hard(prompts=80)
    made = train(outcomes, estimator="knn")
    made.save(tmp_path / "router.npz")
    read = load_artefact(tmp_path / "router.npz")
    before, after = made.reference_estimates(), read.reference_estimates()
    assert before.quality.shape == (80, 2)
    np.testing.assert_allclose(after.quality, before.quality, atol=1e-5)
    np.testing.assert_allclose(after.output_tokens, before.output_tokens, rtol=0.02)
    bins = bins_of(after, 2)
    assert bins.share.sum() == 1
    assert bins.quality[0, 0] > bins.quality[-1, 0]


def test_expected_is_the_estimate_without_its_uncertainty() -> None:
    from serve_apps.router.training import train

    outcomes = easy_and_hard(prompts=80)
    made = train(outcomes, estimator="knn")
    full, quick = made.estimate(outcomes.prompts), made.expected(outcomes.prompts)
    np.testing.assert_allclose(quick.quality, full.quality)
    np.testing.assert_allclose(quick.output_tokens, full.output_tokens)
    assert np.isnan(quick.quality_sd).all()
