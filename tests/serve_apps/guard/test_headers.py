"""Bodies come plain; admin calls come from no other site."""

from __future__ import annotations

import pytest

from serve_apps.api_error import ApiError
from serve_apps.guard.headers import (
    check_body_headers,
    check_origin,
    is_local,
)


@pytest.mark.parametrize(
    "header",
    [
        (b"content-encoding", b"gzip"),
        (b"content-encoding", b"identity, br"),
        (b"content-type", b"text/plain"),
        (b"content-type", b"application/x-www-form-urlencoded"),
        (b"content-type", b"multipart/form-data; boundary=application/json"),
        (b"content-type", b""),
    ],
)
def test_only_plain_json_is_taken(header: tuple[bytes, bytes]) -> None:
    with pytest.raises(ApiError) as error:
        check_body_headers([header])
    assert error.value.status == 415


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"content-type", b"application/json")],
        [(b"content-type", b"Application/JSON; charset=utf-8"), (b"content-encoding", b"identity")],
    ],
)
def test_plain_json_is(headers: list[tuple[bytes, bytes]]) -> None:
    check_body_headers(headers)


OPS = "https://ops.example.com"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "http://pool:8000"},
        {"referer": "http://pool:8000/dashboard"},
        {"origin": OPS, "sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none"},
    ],
)
def test_calls_from_no_page_or_ours_pass(headers: dict[str, str]) -> None:
    check_origin(_raw(headers), [OPS])


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "http://pool:8001"},
        {"origin": "http://pool"},
        {"origin": OPS + ".evil.example"},
        {"origin": "http://["},
        {"referer": "https://evil.example/?http://pool:8000"},
        {"origin": "http://pool:8000", "referer": "https://evil.example/"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_calls_from_other_sites_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ApiError) as error:
        check_origin(_raw(headers), [OPS])
    assert error.value.status == 403


def _raw(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    return [(b"host", b"pool:8000"), *raw]


@pytest.mark.parametrize(
    ("peer", "host", "more", "local"),
    [
        ("127.0.0.1", b"localhost:8000", (), True),
        ("::1", b"[::1]:8000", (), True),
        ("127.0.0.1", b"127.0.0.1", (), True),
        (None, b"localhost", (), False),
        ("10.0.0.1", b"localhost", (), False),
        ("127.0.0.1", b"evil.example:8000", (), False),
        ("127.0.0.1", b"localhost.evil.example", (), False),
        ("127.0.0.1", b"", (), False),
        ("127.0.0.1", b"[", (), False),
        ("127.0.0.1", b"localhost", ((b"x-forwarded-for", b"10.0.0.1"),), False),
        ("127.0.0.1", b"localhost", ((b"forwarded", b"for=10.0.0.1"),), False),
    ],
)
def test_local_is_the_address_and_the_name_without_a_proxy(
    peer: str | None, host: bytes, more: tuple[tuple[bytes, bytes], ...], local: bool
) -> None:
    assert is_local([(b"host", host), *more], peer) is local
