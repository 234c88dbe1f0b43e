"""What was learned comes back after a restart, and a bad file costs no more than that."""

import numpy as np
import pytest

from serve_apps.router import remembered

ARRAYS = {"models": np.array(["a", "b"]), "sum": np.arange(4.0).reshape(2, 2)}


def test_arrays_come_back_to_their_owner_alone(tmp_path):
    path = tmp_path / "learned.npz"
    assert remembered.recall(path, "lin_ucb 0") is None
    remembered.keep(path, "lin_ucb 0", ARRAYS)
    found = remembered.recall(path, "lin_ucb 0")
    assert found is not None and found.keys() == ARRAYS.keys()
    np.testing.assert_array_equal(found["sum"], ARRAYS["sum"])
    assert remembered.recall(path, "lin_ucb 1") is None
    assert [p.name for p in tmp_path.iterdir()] == ["learned.npz"]


@pytest.mark.parametrize("at", [0, 0.3, 0.6, 0.9])
def test_a_damaged_file_is_as_good_as_none(tmp_path, at):
    path = tmp_path / "learned.npz"
    remembered.keep(path, "x", ARRAYS)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * at)])
    assert remembered.recall(path, "x") is None


def test_what_is_no_number_is_not_taken_up(tmp_path):
    remembered.keep(tmp_path / "learned.npz", "x", {"sum": np.array([np.nan])})
    assert remembered.recall(tmp_path / "learned.npz", "x") is None


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "learned.npz"
    remembered.keep(path, "x", ARRAYS)
    with pytest.raises(ValueError, match="allow_pickle"):
        remembered.keep(path, "x", {"sum": np.array([object()])})
    assert remembered.recall(path, "x") is not None
    assert [p.name for p in tmp_path.iterdir()] == ["learned.npz"]
