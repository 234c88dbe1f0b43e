"""A process at the other end of a connection is known by its user, as the kernel tells."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from serve_apps.guard.peer import Peer, is_own_user

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells whose it is")


@pytest.fixture(params=["127.0.0.1", "::1"])
def peer(request: pytest.FixtureRequest) -> Iterator[Peer]:
    """A connection to ourselves, as the accepting end sees it."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.socket(family) as listener:
        try:
            listener.bind((request.param, 0))
        except OSError:
            pytest.skip(f"no {request.param} here")
        listener.listen()
        with socket.create_connection(listener.getsockname()[:2]) as client:
            own, _ = listener.accept()
            with own:
                yield Peer(*client.getsockname()[:2], *own.getsockname()[:2])


def test_a_process_of_our_own_user_is_known(peer: Peer) -> None:
    assert is_own_user(peer)


def test_a_process_of_another_user_is_not(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 54321)
    monkeypatch.setattr("serve_apps.guard.peer.ROOT", 54322)
    assert not is_own_user(peer)


def test_a_connection_that_is_not_there_is_nobodys(peer: Peer) -> None:
    assert not is_own_user(replace(peer, own_port=1))


def test_ipv4_inside_ipv6_is_the_same_connection(peer: Peer) -> None:
    if ":" not in peer.host:
        mapped = replace(peer, host=f"::ffff:{peer.host}", own_host=f"::ffff:{peer.own_host}")
        assert is_own_user(mapped)


@pytest.mark.parametrize("told", [Peer("127.0.0.1"), Peer("testclient", 50000, "pool", 0)])
def test_where_there_is_no_connection_to_look_up_nobody_is_kept_out(told: Peer) -> None:
    assert is_own_user(told)
