"""Artefacts come back bit for bit, refuse what is not theirs, and can run nothing."""

import functools
import json
import os
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from profiler.errors import InputError, UnknownNameError
from serve_apps.router.artefact import Artefact, data_hash, load_artefact
from serve_apps.router.difficulty import difficulty, difficulty_bins
from serve_apps.router.training import train
from tests.serve_apps.router.planted import planted

OUTCOMES, _ = planted(120)
SMALL = {"feature_settings": {"dimensions": 4}, "estimator_settings": {"landmarks": 16}}


@functools.cache
def artefact() -> Artefact:
    """Trained when first asked for: importing a test must be quick."""
    return train(OUTCOMES, **SMALL)


def test_a_saved_artefact_estimates_bit_for_bit_the_same(tmp_path):
    path = tmp_path / "router.npz"
    artefact().save(path)
    loaded = load_artefact(path, OUTCOMES.models)
    assert loaded.description == artefact().description
    for one, other in zip(
        vars(loaded.estimate(OUTCOMES.prompts)).values(),
        vars(artefact().estimate(OUTCOMES.prompts)).values(),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_an_estimate_of_a_batch_is_bit_for_bit_that_of_each_prompt_alone():
    batch = artefact().estimate(OUTCOMES.prompts[:64])
    for i, prompt in enumerate(OUTCOMES.prompts[:64]):
        alone = artefact().estimate([prompt])
        np.testing.assert_array_equal(alone.quality[0], batch.quality[i])
        np.testing.assert_array_equal(alone.quality_sd[0], batch.quality_sd[i])
        np.testing.assert_array_equal(alone.output_tokens[0], batch.output_tokens[i])


def test_the_same_data_and_seed_give_the_same_router():
    again = train(OUTCOMES, **SMALL)
    np.testing.assert_array_equal(
        again.estimate(OUTCOMES.prompts).quality, artefact().estimate(OUTCOMES.prompts).quality
    )


def test_it_tells_its_data_and_its_error():
    told = artefact().description
    assert told.data_sha256 == data_hash(OUTCOMES)
    assert told.data_sha256 != data_hash(OUTCOMES.rows(np.arange(100)))
    assert told.ece is not None and told.brier is not None and told.brier_of_mean is not None
    assert told.brier < told.brier_of_mean


def test_a_pool_it_was_not_trained_for_is_refused(tmp_path):
    path = tmp_path / "router.npz"
    artefact().save(path)
    with pytest.raises(InputError, match=r"trained for m0.*found 'stranger'.*onboard"):
        load_artefact(path, ["m0", "stranger"])


def test_a_part_of_the_pool_is_estimated_in_the_order_asked_for():
    view = artefact().only(["m3", "m1"]).estimate(OUTCOMES.prompts[:5])
    whole = artefact().estimate(OUTCOMES.prompts[:5])
    assert view.models == ("m3", "m1")
    np.testing.assert_array_equal(view.quality, whole.quality[:, [3, 1]])


class Bomb:
    def __reduce__(self):
        return os.mkdir, (str(Path(os.environ["BOMB"])),)


def test_a_pickle_is_never_run(tmp_path, monkeypatch):
    target = tmp_path / "exploded"
    monkeypatch.setenv("BOMB", str(target))
    plain, hidden = tmp_path / "plain.npz", tmp_path / "hidden.npz"
    plain.write_bytes(pickle.dumps(Bomb()))
    np.savez(hidden, allow_pickle=True, description=np.array([Bomb()], dtype=object))
    for path in (plain, hidden):
        with pytest.raises(InputError, match="expected a router artefact"):
            load_artefact(path)
    assert not target.exists()


def test_damage_is_told(tmp_path):
    path = tmp_path / "router.npz"
    artefact().save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="damaged"):
        load_artefact(path)
    with pytest.raises(InputError, match="no such file"):
        load_artefact(tmp_path / "missing.npz")
    np.savez(path, x=np.zeros(3))
    with pytest.raises(InputError, match="no description"):
        load_artefact(path)


@pytest.mark.parametrize("part", [0.2, 0.4, 0.6, 0.8])
def test_bytes_overwritten_anywhere_are_told(tmp_path, part):
    path = tmp_path / "router.npz"
    artefact().save(path)
    whole = bytearray(path.read_bytes())
    at = int(len(whole) * part)
    whole[at : at + 40] = b"\xff" * 40
    path.write_bytes(whole)
    with pytest.raises(InputError, match=r"router\.npz"):
        load_artefact(path)


def test_a_small_file_that_unpacks_to_fill_the_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("serve_apps.router.artefact.MOST_BYTES", 1 << 20)
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, bomb=np.zeros(1 << 18))
    assert path.stat().st_size < 1 << 16
    with pytest.raises(InputError, match="bytes unpacked, expected at most"):
        load_artefact(path)


def changed(tmp_path, **arrays):
    """A file of the artefact with other arrays, dots in their names written as two underscores."""
    path = tmp_path / "changed.npz"
    artefact().save(path)
    with np.load(path) as file:
        kept = dict(file)
    for name, change in arrays.items():
        key = name.replace("__", ".")
        kept[key] = change(kept[key])
    np.savez(path, **kept)
    return path


@pytest.mark.parametrize(
    "arrays",
    [
        {"estimator__fold5__bias": lambda a: a * np.nan},
        {"features__hand__mean": lambda a: a * np.nan},
        {"estimator__fold5__mean": lambda a: a[:-1]},
        {"estimator__fold0__linear": lambda a: a[:-7]},
        {"estimator__lengths__weights": lambda a: a[:-3]},
        {"estimator__calibration__slope": lambda a: np.stack([a, a])},
        {"estimator__shared__typical": lambda a: a.astype(np.int8) * 0},
    ],
)
def test_arrays_that_no_training_wrote_are_refused(tmp_path, arrays):
    with pytest.raises(InputError, match="damaged"):
        load_artefact(changed(tmp_path, **arrays))


@pytest.mark.parametrize("told", ["[" * 100_000, "[]", "5", '{"kind": "orchestrator-router"}'])
def test_a_description_that_is_none_is_refused(tmp_path, told):
    with pytest.raises(InputError, match="found no description"):
        load_artefact(changed(tmp_path, description=lambda _: np.array(told)))


def test_names_in_a_description_that_are_no_names_are_refused(tmp_path):
    def of_estimator(value):
        return lambda a: np.array(json.dumps({**json.loads(str(a)), "estimator": value}))

    with pytest.raises(InputError, match="damaged"):
        load_artefact(changed(tmp_path, description=of_estimator(5)))
    with pytest.raises(UnknownNameError, match=r"\.\./\.\./secret"):
        load_artefact(changed(tmp_path, description=of_estimator("../../secret")))


def test_missing_arrays_and_other_versions_are_told(tmp_path):
    whole, cut = tmp_path / "whole.npz", tmp_path / "cut.npz"
    artefact().save(whole)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(cut, "w") as target:
        for name in source.namelist():
            if "calibration" not in name:
                target.writestr(name, source.read(name))
    with pytest.raises(InputError, match="incomplete or damaged"):
        load_artefact(cut)
    newer = replace(artefact(), description=replace(artefact().description, version=99))
    newer.save(whole)
    with pytest.raises(InputError, match="version 99"):
        load_artefact(whole)
    np.savez(whole, description=np.array(json.dumps({"kind": "cake", "version": 1})))
    with pytest.raises(InputError, match="'cake'"):
        load_artefact(whole)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "gone" / "router.npz"
    with pytest.raises(InputError, match="cannot write"):
        artefact().save(path)
    assert list(tmp_path.iterdir()) == []


def test_training_refuses_what_it_cannot_learn_from():
    with pytest.raises(InputError, match="found 5 different prompts"):
        train(OUTCOMES.rows(np.arange(5)))
    empty = OUTCOMES.score.copy()
    empty[:, 2] = np.nan
    with pytest.raises(InputError, match="no score of m2"):
        train(replace(OUTCOMES, score=empty))
    with pytest.raises(InputError, match="expected them in"):
        train(replace(OUTCOMES, score=OUTCOMES.score * 100))
    with pytest.raises(InputError, match="expected 'prompt' or 'subject'"):
        train(OUTCOMES, group="day")
    with pytest.raises(UnknownNameError):
        train(OUTCOMES, estimator="crystal_ball")


def test_difficulty_bins_share_the_prompts_and_rank_them():
    bins = difficulty_bins(artefact(), OUTCOMES.prompts, 3)
    assert bins.share.sum() == pytest.approx(1)
    assert abs(bins.share - 1 / 3).max() < 0.1
    assert (np.diff(bins.quality.mean(axis=1)) < 0).all()
    estimates = artefact().estimate(OUTCOMES.prompts)
    np.testing.assert_array_equal(bins.bin_of(estimates), bins.of)
    hard = difficulty(estimates)
    assert hard[bins.of == 0].max() <= hard[bins.of == 2].min()
    np.testing.assert_allclose(bins.share @ bins.quality, estimates.quality.mean(axis=0))


def test_no_prompt_has_no_difficulty():
    with pytest.raises(InputError, match="0 prompts"):
        difficulty_bins(artefact(), [], 3)


def test_the_default_parts_are_bounded_and_others_are_not():
    class Slower(type(artefact().features)):
        """Whatever it does, it says that it is the default."""

    assert artefact().bounded
    assert artefact().only(OUTCOMES.models[:1]).bounded
    assert not replace(artefact(), features=Slower()).bounded
    assert not replace(artefact(), estimator=object()).bounded
