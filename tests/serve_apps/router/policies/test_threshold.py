"""Of two models the strong one answers where it is expected to be better by the threshold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_apps.router.policies.base import NoFeasibleModelError
from serve_apps.router.policies.threshold import Threshold, threshold_for_share
from tests.serve_apps.router.policies.asks import pair


def test_the_gap_decides_and_not_the_difficulty() -> None:
    policy = Threshold("weak", "strong", 0.25)
    assert policy.choose(pair(0.5, 0.8)).model == "strong"
    # Hard for both: the strong one would be paid for nothing.
    assert policy.choose(pair(0.05, 0.1)).model == "weak"


def test_a_model_that_would_be_late_is_replaced_and_the_reason_says_so() -> None:
    choice = Threshold("weak", "strong", 0.0).choose(pair(feasible=(True, False)))
    assert choice.model == "weak"
    assert "strong" in choice.reason
    with pytest.raises(NoFeasibleModelError):
        Threshold("weak", "strong", 0.0).choose(pair(feasible=(False, False)))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.floats(0, 1))
@settings(max_examples=25)
def test_the_calibrated_share_is_never_exceeded_and_exact_without_ties(
    gaps: list[int], share: float
) -> None:
    gap = np.array(gaps) / 10
    sent = (gap >= threshold_for_share(gap, share)).mean()
    assert sent <= share + 1e-9
    untied = np.arange(len(gaps)) / 7
    exact = (untied >= threshold_for_share(untied, share)).sum()
    assert exact == int(share * len(gaps) + 1e-9)
