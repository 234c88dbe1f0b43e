"""A model joins from a few probes, and is then estimated nearly as if trained with all labels."""

import functools

import numpy as np
import pytest

from profiler.errors import InputError
from serve_apps.router.artefact import Artefact
from serve_apps.router.onboarding import choose_probes, onboard
from serve_apps.router.training import train
from tests.serve_apps.router.planted import planted

TRAIN, _ = planted(400, models=8)
TEST, TRUTH = planted(200, models=8, seed=1)
KNOWN = TRAIN.only(TRAIN.models[1:])
SMALL = {"feature_settings": {"dimensions": 4}, "estimator_settings": {"landmarks": 16}}


@functools.cache
def artefact() -> Artefact:
    """Trained when first asked for: importing a test must be quick."""
    return train(KNOWN, **SMALL)


def grown(count: int):
    rows = choose_probes(artefact(), KNOWN.prompts, count, KNOWN.score)
    return onboard(
        artefact(),
        "m0",
        [KNOWN.prompts[i] for i in rows],
        TRAIN.score[rows, 0],
        scores=KNOWN.score[rows],
        output_tokens=TRAIN.output_tokens[rows, 0],
    )


@pytest.mark.slow
def test_fifty_probes_come_near_all_labels():
    full = train(TRAIN, **SMALL).only(["m0"]).estimate(TEST.prompts).quality[:, 0]
    few = grown(50).only(["m0"]).estimate(TEST.prompts).quality[:, 0]
    mean = np.full(len(few), TRAIN.score[:, 0].mean())

    def error(p):
        return float(((p - TRUTH[:, 0]) ** 2).mean())

    assert error(mean) - error(few) > 0.7 * (error(mean) - error(full))


def test_the_other_models_stay_as_they_were_and_the_artefact_tells_who_joined(tmp_path):
    more = grown(30)
    assert more.models == (*KNOWN.models, "m0")
    assert more.description.onboarded == {"m0": 30}
    before, after = artefact().estimate(TEST.prompts), more.estimate(TEST.prompts)
    np.testing.assert_allclose(after.quality[:, :-1], before.quality)
    tokens = after.output_tokens[:, -1]
    assert abs(tokens.mean() / TEST.output_tokens[:, 0].mean() - 1) < 0.2


def test_chosen_probes_tell_more_than_others():
    """Squared error of what is then expected of the new model, beside that of random probes."""
    rng = np.random.default_rng(0)

    def error(rows):
        probes, known = [KNOWN.prompts[i] for i in rows], KNOWN.score[rows]
        more = onboard(artefact(), "m0", probes, TRAIN.score[rows, 0], scores=known)
        return float(((more.estimate(TEST.prompts).quality[:, -1] - TRUTH[:, 0]) ** 2).mean())

    chosen = choose_probes(artefact(), KNOWN.prompts, 15, KNOWN.score)
    assert len(set(chosen.tolist())) == 15
    others = [error(rng.choice(len(KNOWN.prompts), 15, replace=False)) for _ in range(12)]
    assert error(chosen) < np.mean(others)


def test_probes_come_in_order_of_what_they_tell():
    few, many = (choose_probes(artefact(), KNOWN.prompts, n, KNOWN.score) for n in (5, 20))
    np.testing.assert_array_equal(few, many[:5])


def test_what_cannot_join_is_told():
    with pytest.raises(InputError, match="in the artefact already"):
        onboard(artefact(), "m3", KNOWN.prompts[:2], np.ones(2))
    with pytest.raises(InputError, match=r"2 scores in \[0, 1\]"):
        onboard(artefact(), "new", KNOWN.prompts[:2], np.array([0.5, np.nan]))
    with pytest.raises(InputError, match="at least 500"):
        choose_probes(artefact(), KNOWN.prompts, 500)
    other = train(KNOWN, estimator="knn", feature_settings={"dimensions": 4})
    with pytest.raises(InputError, match="estimator 'low_rank'"):
        choose_probes(other, KNOWN.prompts, 5)
    with pytest.raises(InputError, match="expected 7"):
        choose_probes(artefact(), KNOWN.prompts, 5, KNOWN.score[:, :2])
