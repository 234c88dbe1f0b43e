"""No secret comes out of a log, whatever it was put in by."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from profiler.secret_text import HIDDEN
from serve_apps.guard.redact import guard_logs, redacted

KEY = "orc_abcdefghij_" + "Zx9-" * 10 + "Qw7"
"""Of the shape of a true one; the same each time, since tests are named by it."""
HF = "hf_" + "a1B2" * 8
SECRETS = [KEY, HF, "hunter2hunter2"]


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    stream = io.StringIO()
    logger = logging.Logger("test")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(message)s %(extra)s", defaults={"extra": ""}))
    logger.addHandler(handler)
    guard_logs([logger])
    guard_logs([logger])
    assert len(handler.filters) == 1
    yield logger, stream


@pytest.mark.parametrize(
    ("message", "args"),
    [
        (f"key {KEY} used", ()),
        ("key %s used", (KEY,)),
        ("headers %s", ({"Authorization": "Bearer hunter2hunter2", "cookie": "hunter2hunter2"},)),
        ("headers %s", ([(b"authorization", b"Bearer hunter2hunter2")],)),
        ("headers %r", (((b"x-api-key", b"hunter2hunter2"),),)),
        ("Authorization: Bearer hunter2hunter2", ()),
        ("%s", ("api_key='hunter2hunter2'",)),
        ("--api-key=hunter2hunter2 HF_TOKEN=hunter2hunter2", ()),
        ("%(token)s and %(a)s", ({"token": "hunter2hunter2", "a": KEY},)),
        ("%s", (ValueError(f"bad {HF}"),)),
        ('{"password": "hunter2hunter2", "x": 1}', ()),
        ("curl -H 'authorization: Basic hunter2hunter2'", ()),
        ("%d %d", (HF,)),
    ],
)
def test_messages(
    log: tuple[logging.Logger, io.StringIO], message: str, args: tuple[object, ...]
) -> None:
    log[0].warning(message, *args)
    said = log[1].getvalue()
    assert HIDDEN in said
    assert not [s for s in SECRETS if s in said]


def test_tracebacks_causes_and_stacks(log: tuple[logging.Logger, io.StringIO]) -> None:
    try:
        try:
            raise ValueError(f"token {HF}")
        except ValueError as error:
            raise RuntimeError(f"with key {KEY}") from error
    except RuntimeError:
        log[0].exception("it failed", stack_info=True, extra={"extra": {"api_key": KEY}})
    said = log[1].getvalue()
    assert "Traceback" in said
    assert said.count(HIDDEN) >= 3
    assert not [s for s in SECRETS if s in said]


def test_what_is_no_secret_stays(log: tuple[logging.Logger, io.StringIO]) -> None:
    line = "req_0123456789abcdef: 12 tokens, group chat-l4, key s5hci5sqof, sha256:" + "ab" * 32
    log[0].warning(line)
    assert log[1].getvalue().strip() == line
    assert redacted({"a": [1, "x", (b"host", b"h")]}) == {"a": [1, "x", ("host", "h")]}
