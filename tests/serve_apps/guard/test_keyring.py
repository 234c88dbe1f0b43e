"""The key ring knows the right key alone, and follows its file without a restart."""

from __future__ import annotations

import datetime as dt
import hmac
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from serve_apps.guard import keyring, keys_file
from serve_apps.guard.keyring import KeyRing
from serve_apps.guard.keys import id_of, new_key, utc_now
from tests.serve_apps.guard.guards import House


def ring(house: House) -> KeyRing:
    return KeyRing(house.path, clock=house.clock.monotonic, now=house.clock.unix)


def test_a_key_is_found_with_all_that_the_data_plane_needs(house: House) -> None:
    key = house.key("acme", priority=3, weight=2.0, models=("m1", "auto"), default_deadline_s=9)
    found = ring(house).find(key)
    assert found is not None
    caller = found.caller
    assert (caller.tenant, caller.key_id) == ("acme", id_of(key))
    assert (caller.priority, caller.weight) == (3, 2.0)
    assert caller.models == {"m1", "auto"}
    assert caller.default_deadline_s == 9


@pytest.mark.parametrize("spoil", ["", "x", "sk-1234", "orc_", "orc_abc", "\ud800", "k" * 10_000])
def test_anything_else_is_nobodys(house: House, spoil: str) -> None:
    key = house.key()
    found = ring(house)
    assert found.find(spoil) is None
    assert found.find(key + "x") is None
    assert found.find(key[:-1]) is None
    assert found.find(new_key(id_of(key))) is None


def test_unknown_and_wrong_keys_take_the_same_steps(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = house.key()
    found = ring(house)
    steps: list[str] = []

    def compare(a: str, b: str) -> bool:
        steps.append("compare")
        return hmac.compare_digest(a, b)

    def hashed(text: str, of: object = keyring.hash_of) -> str:
        steps.append("hash")
        return of(text)  # type: ignore[operator]

    monkeypatch.setattr(keyring, "hmac", SimpleNamespace(compare_digest=compare))
    monkeypatch.setattr(keyring, "hash_of", hashed)
    taken = []
    for tried in (key, new_key(id_of(key)), new_key("zzzzzzzzzz"), "nonsense", ""):
        steps.clear()
        found.find(tried)
        taken.append(list(steps))
    assert taken == [["hash", "compare", "compare"]] * 5


def test_a_new_key_and_a_revocation_are_seen_within_a_second(house: House) -> None:
    first = house.key()
    found = ring(house)
    second = house.key()
    keys_file.revoke(house.path, id_of(first))
    found.refresh()
    assert found.find(second) is None  # looked at a moment ago
    house.clock.passed_s += 1.0
    found.refresh()
    assert found.find(second) is not None
    holder = found.find(first)
    assert holder is not None
    assert holder.entry.disabled


def test_a_file_that_does_not_change_is_not_read_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = house.key()
    found = ring(house)
    monkeypatch.setattr(keyring, "load_keys", _must_not_be_called)
    house.clock.passed_s += 10
    found.refresh()
    assert found.find(key) is not None


def _must_not_be_called(path: Path) -> None:
    raise AssertionError(path)


@pytest.mark.parametrize("spoil", ["gone", "broken", "writable"])
def test_a_broken_file_changes_nothing_and_is_logged(
    house: House, spoil: str, caplog: pytest.LogCaptureFixture
) -> None:
    key = house.key()
    found = ring(house)
    if spoil == "gone":
        house.path.unlink()
    elif spoil == "broken":
        house.path.write_text("keys: 7")
    else:
        house.path.chmod(0o666)
    house.clock.passed_s += 1
    with caplog.at_level(logging.ERROR):
        found.refresh()
        assert found.find(key) is not None
    assert "stay as they were" in caplog.text


def test_a_rotated_key_is_good_until_its_grace_ends(house: House) -> None:
    old = house.key(requests_per_minute=5)
    grace = dt.timedelta(hours=1)
    new = keys_file.rotate(house.path, id_of(old), grace)
    left_s = (utc_now() + grace).timestamp() - house.clock.unix()
    found = ring(house)
    assert id_of(new) == id_of(old)
    house.clock.passed_s = left_s - 60
    assert found.find(old) is not None
    assert found.find(new) is not None
    house.clock.passed_s = left_s + 60
    assert found.find(old) is None
    assert found.find(new) is not None
