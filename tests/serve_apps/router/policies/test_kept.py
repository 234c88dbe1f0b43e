"""What policies learned comes back from plain arrays as it was."""

from __future__ import annotations

import io

import numpy as np
import pytest

from profiler.errors import InputError
from serve_apps.router.policies.base import Answer
from serve_apps.router.policies.beliefs import fit_beliefs
from serve_apps.router.policies.cascade import Cascade
from serve_apps.router.policies.kept import (
    beliefs_from_arrays,
    beliefs_to_arrays,
    stepwise_from_arrays,
    stepwise_to_arrays,
    worth_table_from_arrays,
    worth_table_to_arrays,
)
from serve_apps.router.policies.preference import WorthTable
from serve_apps.router.policies.stepwise import WIDTH, Stepwise
from tests.serve_apps.router.policies.asks import ask


def through_a_file(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Written and read without pickle."""
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    file.seek(0)
    with np.load(file, allow_pickle=False) as kept:
        return dict(kept)


def test_a_cascade_decides_as_before() -> None:
    rng = np.random.default_rng(0)
    right = (rng.random((100, 3)) < [0.5, 0.7, 0.9]).astype(float)
    answers = [
        [Answer("small", str(row[0]), {"p_first": p}), Answer("medium", str(row[1]))]
        for row, p in zip(right, rng.random(100), strict=True)
    ]
    beliefs = fit_beliefs(
        ("small", "medium"), "large", rng.random((100, 2)), answers, right, accept=("small",)
    )
    again = beliefs_from_arrays(through_a_file(beliefs_to_arrays(beliefs)))
    for said in answers[:20]:
        for seen in ([], said[:1], said):
            assert Cascade(again, 20.0).choose(ask(), seen) == Cascade(beliefs, 20.0).choose(
                ask(), seen
            )


def test_a_missing_array_is_named() -> None:
    with pytest.raises(InputError, match=r"'strong'|'accept'|right"):
        beliefs_from_arrays({"order": np.array(["a"])})


def test_a_controller_and_a_calibration() -> None:
    policy = Stepwise("s", "l", np.arange(WIDTH, dtype=float), 0.25)
    again = stepwise_from_arrays(through_a_file(stepwise_to_arrays(policy)))
    assert (again.small, again.large, again.threshold) == ("s", "l", 0.25)
    assert (again.weights == policy.weights).all()
    table = WorthTable(np.array([0.0, 1.0]), np.array([0.5, 1.0]), np.array([1.0, 9.0]))
    back = worth_table_from_arrays(through_a_file(worth_table_to_arrays(table)))
    assert back.for_quality(0.9) == 1.0
