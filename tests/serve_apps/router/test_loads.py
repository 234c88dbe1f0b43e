"""The grid tells nearly what the law tells, and nothing beyond the context or the SLO."""

import math

import pytest

from profiler.rates import max_rates
from serve_apps.router.loads import LoadGrid
from tests import builders


@pytest.mark.parametrize(("inputs", "outputs"), [(1000, 256), (37, 411), (8000, 20), (1, 1)])
def test_between_its_points_the_grid_is_close_to_the_law(inputs: int, outputs: int) -> None:
    profile = builders.profile()
    import numpy as np

    rate = max_rates(profile, np.array([inputs]), np.array([outputs]), builders.slo()).rate_rps[0]
    grid = LoadGrid(profile, builders.slo())
    assert grid(inputs, outputs) == pytest.approx(1 / rate, rel=0.04)


def test_what_cannot_be_served_is_infinite() -> None:
    grid = LoadGrid(builders.profile(max_model_len=4096), builders.slo())
    assert grid(4000, 200) == math.inf
    assert LoadGrid(builders.profile(), builders.slo(tpot_s=1e-4))(100, 100) == math.inf


def test_fewer_tokens_to_prefill_are_less_load() -> None:
    grid = LoadGrid(builders.profile(), builders.slo())
    assert grid(100, 200) < grid(2000, 200) < grid(2000, 800)
