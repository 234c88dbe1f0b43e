"""What a request wants of quality and cost is read from its model name, and kept."""

from __future__ import annotations

import numpy as np
import pytest

from profiler.errors import InputError
from serve_apps.router.policies.preference import (
    ByPreference,
    Preference,
    calibrate,
    parse_preference,
    reachable,
)
from serve_apps.router.policies.utility import Utility
from tests.serve_apps.router.policies.asks import ask, pair


@pytest.fixture(scope="module")
def pool() -> tuple[np.ndarray, ...]:
    """Estimates that are right on average, prices and outcomes of 400 prompts and 3 models."""
    rng = np.random.default_rng(0)
    expected = np.sort(rng.random((400, 3)), axis=1)
    quality = (rng.random((400, 3)) < expected).astype(float)
    price = np.tile([1.0, 3.0, 10.0], (400, 1))
    return expected, price, quality, price


def test_names_that_ask_for_something() -> None:
    assert parse_preference("auto") == Preference()
    assert parse_preference("auto:quality=0.95") == Preference("quality", 0.95)
    assert parse_preference("auto:cost").kind == "cost"  # type: ignore[union-attr]
    assert parse_preference("router-mf-0.116") == Preference("threshold", 0.116)
    assert parse_preference("llama-3.1-8b") is None


@pytest.mark.parametrize("name", ["auto:", "auto:quality=95", "auto:quality=x", "auto:speed"])
def test_a_wish_no_router_knows_is_refused_with_the_ones_that_exist(name: str) -> None:
    with pytest.raises(InputError, match=r"auto:quality=0\.95"):
        parse_preference(name)


def test_calibration_reaches_the_share_asked_for_at_the_least_cost(
    pool: tuple[np.ndarray, ...],
) -> None:
    table = calibrate(*pool)
    expected, price, quality, _ = pool
    for share in (0.8, 0.9, 0.95):
        worth = table.for_quality(share)
        chosen = (worth * expected - price).argmax(axis=1)
        rows = np.arange(len(chosen))
        reached = quality[rows, chosen].mean() / quality[:, 2].mean()
        assert share <= reached < share + 0.05
        assert price[rows, chosen].mean() < 10
    # Nothing reaches this: as much as is known to be had.
    assert table.share[table.worth == table.for_quality(5.0)].max() == table.share.max()


def test_calibration_keeps_a_mean_cost(pool: tuple[np.ndarray, ...]) -> None:
    table = calibrate(*pool)
    worth = table.for_cost(4.0)
    chosen = (worth * pool[0] - pool[1]).argmax(axis=1)
    assert 3.5 < pool[1][np.arange(400), chosen].mean() <= 4.0
    assert table.for_cost(0.1) == 0.0
    assert reachable(table).quality[-1] == pytest.approx(table.share.max())


def test_each_request_s_wish_moves_its_choice(pool: tuple[np.ndarray, ...]) -> None:
    policy = ByPreference(Utility(0.0), calibrate(*pool))
    wishes = [Preference("cost"), Preference("quality", 0.9), Preference("quality", 1.0)]
    worths = [policy.with_preference(ask(), w).worth for w in wishes]
    assert worths[0] == 0.0
    assert worths[1] < worths[2]  # type: ignore[operator]
    cheap = policy.with_preference(ask(), wishes[0])
    assert policy.choose(cheap).model == "small"
    assert policy.with_preference(ask(), Preference()).worth is None


def test_a_threshold_is_the_gap_at_which_two_models_switch() -> None:
    policy = ByPreference(Utility(0.0), calibrate(np.eye(2), np.eye(2), np.eye(2), np.eye(2)))
    wish = Preference("threshold", 0.25)
    assert policy.choose(policy.with_preference(pair(0.5, 0.76), wish)).model == "strong"
    assert policy.choose(policy.with_preference(pair(0.5, 0.74), wish)).model == "weak"


def test_a_threshold_heeds_no_price_of_what_cannot_be_served() -> None:
    policy = ByPreference(Utility(0.0), calibrate(np.eye(2), np.eye(2), np.eye(2), np.eye(2)))
    far = ask(quality=(0.5, 0.6, 0.9), price=(1.0, 3.0, 1e9), feasible=(True, True, False))
    assert policy.choose(policy.with_preference(far, Preference("threshold", 0.2))).model == "small"
    assert (
        policy.choose(policy.with_preference(far, Preference("threshold", 0.05))).model == "medium"
    )
