"""The neural estimator, trained by torch, learns a planted structure and needs no torch after."""

import numpy as np
import pytest

from serve_apps.router.estimators.registry import build, restore
from serve_apps.router.features.text import TextFeatures
from tests.serve_apps.router.planted import planted

pytestmark = pytest.mark.e2e


def test_the_network_learns_and_comes_back_from_its_arrays():
    pytest.importorskip("torch")
    train, _ = planted(240)
    test, truth = planted(120, seed=1)
    text = TextFeatures(dimensions=6).fit(train.prompts)
    settings = {"epochs": 15, "hidden": 8, "learning_rate": 0.01}
    fitted = build("mlp", settings, folds=3).fit(
        text.transform(train.prompts), train, np.random.default_rng(0)
    )
    x = text.transform(test.prompts)
    quality = fitted.estimate(x).quality
    lead = quality[:, -1] - quality[:, 0]
    assert np.corrcoef(lead, truth[:, -1] - truth[:, 0])[0, 1] > 0.3
    np.testing.assert_array_equal(restore("mlp", fitted.arrays()).estimate(x).quality, quality)
