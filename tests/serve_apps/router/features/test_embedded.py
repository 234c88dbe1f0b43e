"""Embeddings are centred, scaled, and computed once for the same prompts."""

import importlib.util

import numpy as np
import pytest

from profiler.errors import InputError
from serve_apps.router.features.embedded import EmbeddedFeatures, cached, package_file
from serve_apps.router.features.sentence import SentenceEmbeddings
from serve_apps.router.features.static import MODEL2VEC, Model2VecEmbeddings
from serve_apps.router.prompts import Prompt


class Lengths(EmbeddedFeatures):
    name = "lengths"
    calls = 0

    def embed(self, texts):
        type(self).calls += 1
        return np.array([[len(t), 1.0, -len(t)] for t in texts])


PROMPTS = [Prompt("a"), Prompt("bbb"), Prompt("ccccc")]


def test_rows_have_the_length_asked_for_and_survive_arrays():
    fitted = Lengths(weight=2.0).fit(PROMPTS)
    x = fitted.transform(PROMPTS)
    np.testing.assert_allclose(np.linalg.norm(x, axis=1)[[0, 2]], 2.0)
    np.testing.assert_array_equal(Lengths.from_arrays(fitted.arrays()).transform(PROMPTS), x)


def test_a_system_prompt_is_embedded_with_the_text():
    fitted = Lengths().fit(PROMPTS)
    same = fitted.transform([Prompt("bbb"), Prompt("b", system="b")])
    np.testing.assert_array_equal(same[0], same[1])


def test_the_cache_spares_the_model(tmp_path):
    Lengths.calls = 0
    first = Lengths(cache_dir=str(tmp_path)).fit(PROMPTS).transform(PROMPTS)
    assert Lengths.calls == 1
    again = Lengths(cache_dir=str(tmp_path)).fit(PROMPTS).transform(PROMPTS)
    assert Lengths.calls == 1
    np.testing.assert_array_equal(first, again)


def test_only_new_texts_are_embedded(tmp_path):
    asked = []

    def embed(texts):
        asked.append(list(texts))
        return np.array([[len(t), 1.0] for t in texts])

    cached(str(tmp_path), "lengths", ["a", "bb", "a"], embed)
    found = cached(str(tmp_path), "lengths", ["ccc", "bb"], embed)
    assert asked == [["a", "bb"], ["ccc"]]
    np.testing.assert_array_equal(found, [[3, 1], [2, 1]])


def test_missing_weights_are_named(monkeypatch):
    with pytest.raises(InputError, match="no_such_package"):
        package_file("no_such_package", "weights")
    monkeypatch.delenv(MODEL2VEC, raising=False)
    with pytest.raises(InputError, match=MODEL2VEC):
        Model2VecEmbeddings().fit(PROMPTS)


def test_a_missing_network_library_is_told_with_its_mend(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "torch" else real(name)
    )
    with pytest.raises(InputError, match=r"need 'torch'.*pip install"):
        SentenceEmbeddings().fit(PROMPTS)
