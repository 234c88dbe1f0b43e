"""Headers reach an engine by allow-list; bodies come plain; admin calls come from no other site."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_apps.api_error import ApiError
from serve_apps.guard.headers import (
    ENGINE_PATHS,
    check_body_headers,
    check_origin,
    engine_headers,
    engine_path,
    is_local,
)

CLIENTS = [
    (b"authorization", b"Bearer x"), (b"cookie", b"c"), (b"host", b"evil"),
    (b"x-forwarded-for", b"1.2.3.4"), (b"x-forwarded-host", b"e"), (b"forwarded", b"for=1"),
    (b"x-real-ip", b"1.2.3.4"), (b"x-user-id", b"root"), (b"x-orchestrator-group", b"g"),
    (b"x-request-id", b"../../x"), (b"x-session-id", b"s"), (b"x-vllm-priority", b"-9"),
    (b"x-data-parallel-rank", b"3"), (b"connection", b"x-request-id"), (b"te", b"trailers"),
    (b"transfer-encoding", b"chunked"), (b"upgrade", b"h2c"), (b"traceparent", b"00-a-b-01"),
    (b"content-type", b"text/plain"), (b"content-length", b"0"), (b"expect", b"100-continue"),
]  # fmt: skip


def test_nothing_of_the_clients_reaches_an_engine() -> None:
    assert engine_headers(CLIENTS, "req_1") == [
        (b"content-type", b"application/json"),
        (b"x-request-id", b"req_1"),
    ]


def test_trace_context_passes_where_it_is_believed() -> None:
    sent = dict(engine_headers(CLIENTS, "req_1", "engine-key", trace=True))
    assert sent.pop(b"traceparent") == b"00-a-b-01"
    assert sent == {
        b"content-type": b"application/json",
        b"x-request-id": b"req_1",
        b"authorization": b"Bearer engine-key",
    }
    assert b"tracestate" not in dict(
        engine_headers([(b"tracestate", b"x" * 600)], "req_1", trace=True)
    )


@settings(max_examples=50)
@given(st.lists(st.tuples(st.binary(max_size=9), st.binary(max_size=9)), max_size=5))
def test_whatever_a_client_sends_the_engine_sees_the_same(
    headers: list[tuple[bytes, bytes]],
) -> None:
    assert engine_headers(headers, "req_1") == engine_headers([], "req_1")


@pytest.mark.parametrize(
    "path",
    ["/invocations", "/pooling", "/v1/load_lora_adapter", "/v1/embeddings", "/tokenize", "/",
     "/v1/chat/completions/", "/v1/../invocations", "//v1/completions", "/v1/completions?x=1",
     "/v1/completions#", "/V1/completions", "http://other/v1/completions", "/v1/completions%00"],
)  # fmt: skip
def test_other_paths_of_an_engine_are_unknown_here(path: str) -> None:
    with pytest.raises(ApiError) as error:
        engine_path(path)
    assert error.value.status == 404


def test_the_engine_paths_are_the_two() -> None:
    assert {engine_path(p) for p in ENGINE_PATHS} == {"/v1/chat/completions", "/v1/completions"}


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
