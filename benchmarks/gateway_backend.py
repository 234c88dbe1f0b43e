"""A backend that costs next to nothing: answers chat completions at once, whole or as a stream.

``python -m benchmarks.gateway_backend`` prints its port, and ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import httptools
import uvloop

EVENTS = 10
"""Events of a streamed answer, each written by itself."""
_CHOICE = {"index": 0, "message": {"role": "assistant", "content": "fine"}, "finish_reason": "stop"}
_USAGE = {"prompt_tokens": 8, "completion_tokens": EVENTS, "total_tokens": 8 + EVENTS}
_ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [_CHOICE],
        "usage": _USAGE,
    }
).encode()


def _whole(body: bytes, content_type: str = "application/json") -> bytes:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _event(delta: dict[str, str], finish: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    made = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    text = b"data: " + json.dumps(made | {"choices": [choice]}).encode() + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(text), text)


_CHAT = _whole(_ANSWER)
_OTHER = _whole(b'{"object": "list", "data": [{"id": "m", "object": "model"}]}')
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_STREAM = [
    *[_event({"content": " word"}, None) for _ in range(EVENTS - 1)],
    _event({}, "stop"),
    b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n",
]


class Backend(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._parser: Any = httptools.HttpRequestParser(self)
        self._transport: Any = None
        self._body: list[bytes] = []
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of `asyncio.Protocol`."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Of `asyncio.Protocol`."""
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        """Of httptools."""
        self._body = []

    def on_body(self, body: bytes) -> None:
        """Of httptools."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Of httptools."""
        tail = b"".join(self._body)[-200:]  # where the load generator says it
        if not self._body:
            self._transport.write(_OTHER)
        elif b'"stream": true' in tail or b'"stream":true' in tail:
            self._transport.write(_STREAM_HEAD)
            self._loop.call_soon(self._next, 0)
        else:
            self._transport.write(_CHAT)

    def _next(self, at: int) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(_STREAM[at])
        if at + 1 < len(_STREAM):
            self._loop.call_soon(self._next, at + 1)


async def main() -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Backend, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(main())
