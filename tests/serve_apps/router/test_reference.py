"""An artefact keeps what its calibration prompts looked like, and tells it after loading."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest

from profiler.errors import InputError
from serve_apps.router.artefact import Artefact, load_artefact
from serve_apps.router.difficulty import bins_of
from tests.router_builders import artefact, easy_and_hard

OUTCOMES = easy_and_hard(prompts=60)


@functools.cache
def made() -> Artefact:
    from serve_apps.router.training import train

    return train(OUTCOMES, estimator="knn", feature_settings={"dimensions": 4})


def test_reference_estimates_survive_saving(tmp_path: Path) -> None:
    made().save(tmp_path / "router.npz")
    read = load_artefact(tmp_path / "router.npz")
    before, after = made().reference_estimates(), read.reference_estimates()
    assert before.quality.shape == (60, 2)
    np.testing.assert_allclose(after.quality, before.quality, atol=1e-5)
    np.testing.assert_allclose(after.output_tokens, before.output_tokens, rtol=0.02)
    bins = bins_of(after, 2)
    assert bins.share.sum() == 1
    assert bins.quality[0, 0] > bins.quality[-1, 0]


def test_reference_estimates_are_by_scorers_that_had_not_seen_the_prompt() -> None:
    held_out, seen = made().reference_estimates(), made().estimate(OUTCOMES.prompts)
    errors = [np.abs(e.quality - OUTCOMES.score).mean() for e in (held_out, seen)]
    assert errors[0] >= errors[1]
    assert not np.allclose(held_out.quality, seen.quality)


def test_expected_is_the_estimate_without_its_uncertainty() -> None:
    full, quick = made().estimate(OUTCOMES.prompts), made().expected(OUTCOMES.prompts)
    np.testing.assert_allclose(quick.quality, full.quality)
    np.testing.assert_allclose(quick.output_tokens, full.output_tokens)
    assert np.isnan(quick.quality_sd).all()


def test_an_artefact_without_them_says_what_to_do() -> None:
    from dataclasses import replace

    with pytest.raises(InputError, match="train it again"):
        replace(artefact(["m"], [[0.5]]), reference=None).reference_estimates()
