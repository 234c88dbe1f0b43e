"""The client for engines keeps connections, passes pieces on, and never waits for ever."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from profiler.engine import free_port
from serve_apps import upstream as upstreams
from serve_apps.upstream import Answer, EngineGoneError, SilentEngineError, Upstream

PATH = b"/v1/chat/completions"
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Engine:
    """Says, byte by byte, what a test has written down, once per request."""

    def __init__(self, script: Script) -> None:
        self.connections = 0
        self.requests: list[bytes] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self._script = script

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.tasks.add(asyncio.create_task(self._handle(reader, writer)))

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with (
            contextlib.closing(writer),
            contextlib.suppress(asyncio.IncompleteReadError, ConnectionError),
        ):
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or b"0"
                self.requests.append(head + await reader.readexactly(int(length)))
                await self._script(reader, writer)


@contextlib.asynccontextmanager
async def engine(
    script: Script, host: str = "127.0.0.1"
) -> AsyncIterator[tuple[Engine, Upstream, str]]:
    made = Engine(script)
    server = await asyncio.start_server(made.accept, host, 0)
    port = server.sockets[0].getsockname()[1]
    upstream, name = Upstream(), f"[{host}]" if ":" in host else host
    try:
        async with asyncio.timeout(20):
            yield made, upstream, f"http://{name}:{port}"
    finally:
        upstream.close()
        server.close()
        for task in made.tasks:
            task.cancel()
        await asyncio.gather(*made.tasks, return_exceptions=True)
        await asyncio.sleep(0)


def says(*pieces: bytes, close: bool = False) -> Script:
    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if close:
            writer.close()

    return script


async def rest(answer: Answer) -> bytes:
    found = b""
    while piece := await answer.next(10.0):
        found += piece
    return found


async def test_a_connection_is_used_again() -> None:
    async with engine(says(WHOLE)) as (made, upstream, url):
        for _ in range(3):
            answer = await upstream.ask(url, PATH, b'{"a": 1}', 10.0, b"x-request-id: r\r\n")
            assert (answer.status, answer.body, answer.stream) == (200, b"{}", False)
            answer.close()
    assert made.connections == 1
    assert made.requests[0].endswith(b'\r\n\r\n{"a": 1}')
    assert b"x-request-id: r\r\n" in made.requests[0]


@pytest.mark.parametrize(
    "pieces",
    [(WHOLE,), tuple(WHOLE[i : i + 1] for i in range(len(WHOLE)))],
    ids=["at once", "byte by byte"],
)
async def test_an_answer_is_the_same_however_it_arrives(pieces: tuple[bytes, ...]) -> None:
    async with engine(says(*pieces)) as (_, upstream, url):
        answer = await upstream.ask(url, PATH, b"{}", 10.0)
        assert answer.body == b"{}"
        assert answer.headers == [(b"content-type", b"application/json")]


async def test_a_stream_passes_and_its_connection_is_used_again() -> None:
    script = says(STREAM, b"3\r\nabc\r\n", b"2\r\nde\r\n", b"0\r\n\r\n")
    async with engine(script) as (made, upstream, url):
        for _ in range(2):
            answer = await upstream.ask(url, PATH, b"{}", 10.0)
            assert answer.stream
            assert await rest(answer) == b"abcde"
            answer.close()
    assert made.connections == 1


async def poured(taken: bytes) -> tuple[list[bytes], bytes, bool]:
    """What a stream of "abc", "de" and "f" with the end was poured into, what came next, whether
    that was all; only what is in ``taken`` is taken.
    """
    go = [asyncio.Event(), asyncio.Event()]
    found: list[bytes] = []

    async def stepwise(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece, then in zip((STREAM + b"3\r\nabc\r\n", b"2\r\nde\r\n"), go, strict=True):
            writer.write(piece)
            await then.wait()
        writer.write(b"1\r\nf\r\n0\r\n\r\n")

    def take(piece: bytes) -> bool:
        go[len(found)].set()
        found.append(piece)
        return piece in taken

    async with engine(stepwise) as (_, upstream, url):
        answer = await upstream.ask(url, PATH, b"{}", 10.0)
        await answer.pour(take, 10.0)
        rest = await answer.next(10.0)
        ended = answer.ended
        answer.close()
    return found, rest, ended


async def test_pieces_are_poured_as_they_come_and_the_last_is_left_for_the_end() -> None:
    assert await poured(b"abcde") == ([b"abc", b"de"], b"f", True)


async def test_a_piece_that_is_not_taken_comes_next() -> None:
    assert await poured(b"abc") == ([b"abc", b"de"], b"de", False)


@pytest.mark.parametrize("close", [True, False], ids=["gone", "silent"])
async def test_a_stream_that_is_poured_and_breaks_off_says_so(close: bool) -> None:
    found: list[bytes] = []
    async with engine(says(STREAM, b"3\r\nabc\r\n", close=close)) as (_, upstream, url):
        answer = await upstream.ask(url, PATH, b"{}", 10.0)
        with pytest.raises(EngineGoneError if close else SilentEngineError):
            await answer.pour(lambda piece: found.append(piece) is None, 10.0 if close else 0.01)
        answer.close()
        assert upstream.connections == 0
    assert found == [b"abc"]


async def test_an_answer_without_length_ends_with_its_connection() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n"
    async with engine(says(head, b"abc", close=True)) as (_, upstream, url):
        answer = await upstream.ask(url, PATH, b"{}", 10.0)
        assert answer.body == b"abc"
        answer.close()


async def test_a_connection_closed_while_it_rested_is_replaced() -> None:
    async with engine(says(WHOLE, close=True)) as (made, upstream, url):
        for _ in range(3):
            answer = await upstream.ask(url, PATH, b"{}", 10.0)
            answer.close()
    assert len(made.requests) == 3


async def test_an_engine_that_is_not_there_was_sent_nothing() -> None:
    upstream = Upstream()
    with pytest.raises(EngineGoneError) as error:
        await upstream.ask(f"http://127.0.0.1:{free_port()}", PATH, b"{}", 10.0)
    assert not error.value.sent
    assert upstream.connections == 0


@pytest.mark.parametrize(
    "said",
    [b"", b"HTTP/1.1 200", WHOLE[:-1], b"nonsense\r\n\r\n"],
    ids=["nothing", "half a line", "half a body", "no HTTP"],
)
async def test_an_engine_that_goes_away_before_its_answer_is_told_of(said: bytes) -> None:
    async with engine(says(said, close=True)) as (_, upstream, url):
        with pytest.raises(EngineGoneError):
            await upstream.ask(url, PATH, b"{}", 10.0)
        assert upstream.connections == 0


async def test_a_stream_that_breaks_off_gives_what_came_and_then_says_so() -> None:
    async with engine(says(STREAM, b"3\r\nabc\r\n", close=True)) as (_, upstream, url):
        answer = await upstream.ask(url, PATH, b"{}", 10.0)
        assert await answer.next(10.0) == b"abc"
        with pytest.raises(EngineGoneError):
            await answer.next(10.0)
        answer.close()


async def hang(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


async def test_silence_has_an_end_before_the_first_byte_and_after() -> None:
    async with engine(hang) as (_, upstream, url):
        with pytest.raises(SilentEngineError):
            await upstream.ask(url, PATH, b"{}", 0.01)
        assert upstream.connections == 0
    async with engine(says(STREAM, b"3\r\nabc\r\n")) as (_, upstream, url):
        answer = await upstream.ask(url, PATH, b"{}", 10.0)
        await answer.next(10.0)
        with pytest.raises(SilentEngineError):
            await answer.next(0.01)
        answer.close()


async def test_leaving_an_answer_ends_its_connection() -> None:
    left = asyncio.Event()

    async def watch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM + b"3\r\nabc\r\n")
        with contextlib.suppress(ConnectionError):
            await reader.read()
        left.set()

    async with engine(watch) as (_, upstream, url):
        answer = await upstream.ask(url, PATH, b"{}", 10.0)
        answer.close()
        await left.wait()
        assert upstream.connections == 0


async def test_a_cancelled_request_ends_its_connection() -> None:
    async with engine(hang) as (made, upstream, url):
        asking = asyncio.create_task(upstream.ask(url, PATH, b"{}", 10.0))
        while not made.requests:
            await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.sleep(0)
        assert upstream.connections == 0


async def test_a_stream_that_nobody_reads_is_not_read_on() -> None:
    piece = b"x" * 65536
    chunk = b"10000\r\n" + piece + b"\r\n"
    sent = 0

    async def flood(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(STREAM)
        for _ in range(400):
            writer.write(chunk)
            await writer.drain()
            sent += len(piece)
        writer.write(b"0\r\n\r\n")

    async with engine(flood) as (_, upstream, url):
        answer = await upstream.ask(url, PATH, b"{}", 10.0)
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.05)
        assert sent < 400 * len(piece)
        assert len(await rest(answer)) == 400 * len(piece)
        answer.close()


async def test_interim_answers_are_passed_over() -> None:
    async with engine(says(b"HTTP/1.1 100 Continue\r\n\r\n" + WHOLE)) as (_, upstream, url):
        answer = await upstream.ask(url, PATH, b"{}", 10.0)
        assert (answer.status, answer.body) == (200, b"{}")


OTHER = WHOLE.replace(b"{}", b"[]")


async def test_an_answer_that_nobody_asked_for_is_given_to_nobody() -> None:
    async with engine(says(WHOLE + OTHER)) as (made, upstream, url):
        for _ in range(2):
            answer = await upstream.ask(url, PATH, b"{}", 10.0)
            assert (answer.body, len(answer.headers)) == (b"{}", 1)
            answer.close()
        assert made.connections == 2


async def test_what_comes_late_and_unasked_ends_the_connection_it_came_over() -> None:
    go = asyncio.Event()

    async def babbles(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(WHOLE)
        await go.wait()
        writer.write(OTHER[:60])  # the rest would be read as the next answer's beginning

    async with engine(babbles) as (_, upstream, url):
        answer = await upstream.ask(url, PATH, b"{}", 10.0)
        answer.close()
        assert upstream.connections == 1
        go.set()
        while upstream.connections:
            await asyncio.sleep(0)


async def test_a_connection_that_is_not_read_is_not_used_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upstreams, "HIGH_WATER_BYTES", 1)
    async with engine(says(STREAM + b"3\r\nabc\r\n0\r\n\r\n")) as (made, upstream, url):
        for _ in range(2):
            answer = await upstream.ask(url, PATH, b"{}", 10.0)
            answer.close()  # without having taken what came
        assert made.connections == 2


async def test_no_connection_to_an_engine_that_is_gone_is_kept() -> None:
    async with engine(says(WHOLE)) as (made, upstream, url):
        answer = await upstream.ask(url, PATH, b"{}", 10.0)
        upstream.keep(set())
        answer.close()
        await asyncio.wait_for(made.tasks.copy().pop(), 10.0)


async def test_an_address_of_version_6_is_named_in_brackets() -> None:
    async with engine(says(WHOLE), "::1") as (made, upstream, url):
        (await upstream.ask(url, PATH, b"{}", 10.0)).close()
    assert f"host: {url.removeprefix('http://')}\r\n".encode() in made.requests[0]
