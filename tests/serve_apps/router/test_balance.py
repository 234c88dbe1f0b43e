"""Shares are kept whatever the utilities are, and given to those who gain most."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_apps.router.balance import Balance, starting_biases


@given(
    st.lists(st.floats(0.05, 1), min_size=2, max_size=4),
    st.integers(0, 2**32 - 1),
    st.floats(-8, 8),
)
def test_realised_shares_tend_to_the_wanted(
    weights: list[float], seed: int, log_scale: float
) -> None:
    rng = np.random.default_rng(seed)
    names = [f"m{i}" for i in range(len(weights))]
    shares = dict(zip(names, np.array(weights) / sum(weights), strict=True))
    balance = Balance(shares, dict.fromkeys(names, 0.0), 10**log_scale)
    taken = dict.fromkeys(names, 0)
    requests = 600
    for row in rng.normal(rng.normal(size=len(names)), 1.0, (requests, len(names))).tolist():
        utilities = dict(zip(names, row, strict=True))
        chosen = max(names, key=lambda m: utilities[m] + balance.bias(m))
        balance.took(chosen, utilities)
        taken[chosen] += 1
    for name, share in shares.items():
        assert abs(taken[name] / requests - share) < 0.25


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_the_start_splits_the_reference_as_wanted(share: float) -> None:
    rng = np.random.default_rng(1)
    utilities = np.column_stack([rng.normal(size=2000), 3 + 2 * rng.normal(size=2000)])
    biases, scale = starting_biases(utilities, np.array([share, 1 - share]))
    chosen = (utilities + biases).argmax(axis=1)
    assert np.mean(chosen == 0) == pytest.approx(share, abs=0.03)
    assert scale > 0


def test_equal_prompts_are_dealt_in_turn() -> None:
    balance = Balance({"a": 0.75, "b": 0.25}, {"a": 0.0, "b": 0.0}, 0.0)
    taken = []
    for _ in range(40):
        chosen = max("ab", key=balance.bias)
        balance.took(chosen, {"a": 1.0, "b": 1.0})
        taken.append(chosen)
    assert taken.count("a") == 30
