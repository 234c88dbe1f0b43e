"""Keys are random, kept as hashes, and the file that keeps them is whole, private and checked."""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler import documents
from profiler.errors import InputError, UnknownNameError
from serve_apps.guard import keys_file
from serve_apps.guard.keys import KeysFile, engine_key, hash_of, id_of, new_id, new_key
from serve_apps.guard.known_keys import KNOWN, check_secret, is_known
from tests.serve_apps.guard.guards import House

HASH = hash_of("anything else")


def entry(**fields: object) -> str:
    known = {"id": "abcdefghij", "hash": HASH, "tenant": "acme"} | fields
    return "keys:\n" + "\n".join(
        f"{'  - ' if i == 0 else '    '}{name}: {value}"
        for i, (name, value) in enumerate(known.items())
    )


def test_a_key_has_256_random_bits_and_carries_its_public_id() -> None:
    key_id = new_id()
    key = new_key(key_id)
    assert id_of(key) == key_id
    assert len(key.removeprefix(f"orc_{key_id}_")) == 43  # 32 bytes in base64
    assert len({new_key(key_id) for _ in range(100)} | {engine_key() for _ in range(100)}) == 200


def test_the_file_holds_the_hash_and_never_the_key(house: House) -> None:
    key = house.key(requests_per_minute=5)
    text = house.path.read_text()
    assert key not in text
    assert key.rpartition("_")[2] not in text
    assert hashlib.sha256(key.encode()).hexdigest() in text


def test_the_file_is_private_however_often_it_is_written(house: House) -> None:
    for _ in range(2):
        house.key()
        assert stat.S_IMODE(house.path.stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_can_write_is_refused(house: House, mode: int) -> None:
    house.key()
    house.path.chmod(mode)
    with pytest.raises(InputError, match=r"others can write.*chmod 600"):
        keys_file.load_keys(house.path)


def test_a_file_that_anyone_can_read_is_warned_of(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.key()
    house.path.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        assert len(keys_file.load_keys(house.path).keys) == 1
    assert "chmod 600" in caplog.text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (entry(tennant="x"), r"keys.yaml:5: .*unknown key 'tennant'; did you mean 'tenant'"),
        (entry(hash="sha256:12"), r"keys.yaml:3: keys\[0\]\.hash"),
        (entry(hash=hash_of("sk-1234")), r"keys.yaml:3: .*publicly known default key"),
        (entry(hash=hash_of("EMPTY")), r"keys.yaml:3: .*publicly known default key"),
        (entry(expires="2026-01-01T00:00:00"), r"keys.yaml:5: .*expires"),
        (entry(tenant="Two Words"), r"keys.yaml:4: keys\[0\]\.tenant"),
        (entry(budget_usd_per_day=-1), r"keys.yaml:5: .*greater than 0"),
        (
            entry() + entry().removeprefix("keys:").replace(HASH, hash_of("b")),
            "two entries have id",
        ),
        (entry(previous_hash=HASH), "stand together"),
        (entry(note=new_key("abcdefghij")), r"keys.yaml:5: found an API key of this product"),
    ],
)
def test_a_mistake_in_the_file_is_told_with_its_line(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        documents.parse(text, KeysFile, "keys.yaml")


@settings(max_examples=20)
@given(st.text(max_size=200))
def test_any_text_is_a_keys_file_or_an_input_error(text: str) -> None:
    try:
        documents.parse(text, KeysFile, "keys.yaml")
    except InputError as error:
        assert "keys.yaml" in str(error)


def test_a_revoked_key_stays_in_the_file_with_its_limits(house: House) -> None:
    house.key(requests_per_minute=7)
    other = id_of(house.key("other"))
    gone = keys_file.revoke(house.path, other)
    kept = {e.id: e for e in keys_file.load_keys(house.path).keys}
    assert gone.disabled
    assert kept[other].disabled
    assert [e.disabled for e in kept.values()] == [False, True]


def test_a_revoked_key_is_not_rotated(house: House) -> None:
    key_id = id_of(house.key())
    keys_file.revoke(house.path, key_id)
    with pytest.raises(InputError, match="disabled"):
        keys_file.rotate(house.path, key_id, dt.timedelta(0))


def test_an_unknown_id_is_told_with_those_there_are(house: House) -> None:
    key_id = id_of(house.key())
    with pytest.raises(UnknownNameError, match=key_id):
        keys_file.revoke(house.path, "zzzzzzzzzz")


def test_what_cannot_be_written_changes_nothing(house: House) -> None:
    house.key()
    before = house.path.read_bytes()
    with pytest.raises(ValueError, match="tenant"):
        house.key("Not A Tenant")
    assert house.path.read_bytes() == before


@pytest.mark.parametrize("secret", ["sk-1234", "EMPTY", "changeme", " None ", "token-abc123"])
def test_publicly_known_defaults_are_no_secrets(secret: str) -> None:
    assert is_known(secret)
    with pytest.raises(InputError, match=r"--api-key: .*publicly known") as refused:
        check_secret(secret, "--api-key")
    assert "token_urlsafe" in str(refused.value)


@pytest.mark.parametrize("secret", ["", "hunter2-hunter2", "a" * 40])
def test_what_can_be_guessed_is_no_secret(secret: str) -> None:
    with pytest.raises(InputError, match=r"api_key: found a secret of"):
        check_secret(secret, "api_key")


def test_a_random_secret_is_one_and_defaults_are_in_lower_case() -> None:
    key = engine_key()
    assert check_secret(key, "x") == key
    assert {k.casefold() for k in KNOWN} == KNOWN
