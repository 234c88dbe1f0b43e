"""Extractors are found by name, and can be joined."""

import numpy as np
import pytest

from profiler.errors import UnknownNameError
from serve_apps.router.artefact import load_artefact
from serve_apps.router.features.joined import JoinedFeatures
from serve_apps.router.features.registry import build, feature_class, feature_names
from serve_apps.router.training import train
from tests.serve_apps.router.planted import planted


def test_every_name_of_ours_leads_to_a_class_of_that_name():
    for name in feature_names():
        assert feature_class(name).name == name


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'text'"):
        feature_class("txt")


def test_joined_extractors_stand_side_by_side_and_come_back_from_arrays():
    prompts = planted(40)[0].prompts
    fitted = JoinedFeatures("hand+text").fit(prompts)
    x = fitted.transform(prompts)
    hand = feature_class("hand")().fit(prompts).transform(prompts)
    np.testing.assert_array_equal(x[:, : hand.shape[1]], hand)
    restored = JoinedFeatures.from_arrays(fitted.arrays())
    np.testing.assert_array_equal(restored.transform(prompts), x)


def test_names_with_a_plus_are_joined_in_an_artefact_too(tmp_path):
    outcomes, _ = planted(60)
    made = train(outcomes, features="hand+text", estimator="knn")
    assert made.description.features == "hand+text"
    made.save(tmp_path / "router.npz")
    again = load_artefact(tmp_path / "router.npz").estimate(outcomes.prompts[:5])
    np.testing.assert_array_equal(again.quality, made.estimate(outcomes.prompts[:5]).quality)


def test_each_joined_name_is_checked():
    with pytest.raises(UnknownNameError, match="did you mean 'static'"):
        build("text+statik", {})
