"""The layer that hidden states are read from is chosen by validation, and kept with the router."""

import numpy as np
import pytest

from serve_apps.router.features import hidden
from serve_apps.router.features.hidden import HiddenStates, best_layer
from serve_apps.router.features.joined import JoinedFeatures
from serve_apps.router.training import train
from tests.serve_apps.router.planted import planted

TELLING = 12
OUTCOMES, TRUTH = planted(120)


@pytest.fixture(autouse=True)
def small_lm(monkeypatch):
    """A language model of which one layer knows how hard a prompt is, the others nothing."""
    known = {p.text: row for p, row in zip(OUTCOMES.prompts, TRUTH, strict=True)}

    def layers(texts, wanted):
        found = []
        for layer in wanted:
            noise = np.random.default_rng(layer).normal(size=(len(texts), TRUTH.shape[1]))
            knowing = layer == TELLING
            found.append(np.array([known[t] for t in texts]) if knowing else noise)
        return found

    monkeypatch.setattr(hidden, "layers", layers)


def test_the_layer_that_tells_most_is_found():
    texts = [p.text for p in OUTCOMES.prompts]
    assert best_layer(texts, OUTCOMES.score) == TELLING


def test_training_chooses_the_layer_and_the_artefact_keeps_it():
    made = train(OUTCOMES, features="hidden", estimator="knn")
    assert made.features.arrays()["layer"] == TELLING


def test_a_layer_that_is_given_stays_and_joined_ones_are_chosen_too():
    score = OUTCOMES.score
    assert HiddenStates(layer=8).chosen(OUTCOMES.prompts, score).layer == 8
    joined = JoinedFeatures("hand+hidden").chosen(OUTCOMES.prompts, score).fit(OUTCOMES.prompts)
    assert joined.arrays()["1/layer"] == TELLING


def test_layers_are_kept_apart(tmp_path):
    x = [
        HiddenStates(cache_dir=str(tmp_path), layer=layer)
        .fit(OUTCOMES.prompts)
        .transform(OUTCOMES.prompts[:3])
        for layer in (8, TELLING)
    ]
    assert not np.allclose(*x)
