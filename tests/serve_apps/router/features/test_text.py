"""Default features: the same for a prompt alone as in a batch, and blind to nothing it carries."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_apps.router.features.hand import NAMES, HandFeatures, raw_features
from serve_apps.router.features.scan import scan
from serve_apps.router.features.text import TextFeatures
from serve_apps.router.prompts import Prompt
from tests.serve_apps.router.planted import planted

FITTED = TextFeatures(dimensions=8).fit(planted(60)[0].prompts)


def value(name: str, prompt: Prompt) -> float:
    return raw_features([prompt], scan([prompt.text]))[0, NAMES.index(name)]


@settings(max_examples=20)
@given(st.lists(st.text(max_size=60), min_size=1, max_size=6))
def test_a_row_of_a_batch_is_what_the_prompt_gives_alone(texts):
    prompts = [Prompt(t) for t in texts]
    batch = FITTED.transform(prompts)
    alone = np.concatenate([FITTED.transform([p]) for p in prompts])
    assert np.isfinite(batch).all()
    np.testing.assert_array_equal(batch, alone)


def test_fitting_twice_gives_the_same():
    prompts = planted(60)[0].prompts
    again = TextFeatures(dimensions=8).fit(prompts)
    np.testing.assert_array_equal(FITTED.transform(prompts), again.transform(prompts))


def test_arrays_restore_the_extractor_bit_for_bit():
    prompts = planted(60, seed=1)[0].prompts
    restored = TextFeatures.from_arrays(FITTED.arrays())
    np.testing.assert_array_equal(FITTED.transform(prompts), restored.transform(prompts))


def test_an_unfitted_extractor_says_so():
    with pytest.raises(ValueError, match="fit comes before"):
        TextFeatures().transform([Prompt("x")])


def test_choices_and_their_stem_are_counted():
    text = "Which one?\nA. 12\nB. 345\nC. six"
    assert value("choices", Prompt(text)) == 3
    assert value("stem_length", Prompt(text)) == np.log1p(len("Which one?"))
    assert value("choice_digits", Prompt(text)) == pytest.approx(5 / 11)


def test_what_surrounds_a_text_counts():
    plain, rich = Prompt("hi"), Prompt("hi", "be kind", 3, 2, 1, 640 * 480, 100)
    for name in ("log_system_words", "log_turns", "log_tools", "images", "log_pixels", "limited"):
        assert value(name, rich) > value(name, plain), name


def test_a_feature_that_never_varied_stays_silent():
    fitted = HandFeatures().fit([Prompt("a b"), Prompt("a b c d")])
    seen = fitted.transform([Prompt("a", images=5)])[0]
    assert seen[NAMES.index("images")] == 0
    assert np.abs(seen).max() <= 5
