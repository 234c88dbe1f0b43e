"""A closed-loop load generator: each connection asks again as soon as it is answered.

``python -m benchmarks.gateway_load PORT CONNECTIONS SECONDS [--stream] [--pad BYTES] [--model M]``
prints one JSON object: requests per second, latency percentiles in microseconds, failures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from typing import Any

import httptools
import uvloop

PATH = "/v1/chat/completions"


def request_bytes(port: int, model: str, pad_bytes: int, *, stream: bool) -> bytes:
    """One chat completion as it goes over the wire."""
    text = "What is the capital of France? " + "Paris is nice. " * (pad_bytes // 15)
    fields: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": text}]}
    body = json.dumps(fields | {"max_tokens": 16, "stream": stream}).encode()
    head = (
        f"POST {PATH} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer sk-none\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Client(asyncio.Protocol):
    """One connection; ``latencies_s`` grows with every answer."""

    def __init__(self, request: bytes, until_s: float, latencies_s: list[float]) -> None:
        self.failed = 0
        self.done = asyncio.get_running_loop().create_future()
        self._request = request
        self._until_s = until_s
        self._latencies_s = latencies_s
        self._parser: Any = httptools.HttpResponseParser(self)
        self._transport: Any = None
        self._sent_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of `asyncio.Protocol`."""
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        """Of `asyncio.Protocol`."""
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Of `asyncio.Protocol`: before the time is up it is a failure."""
        if not self.done.done():
            self.failed += time.perf_counter() < self._until_s
            self.done.set_result(None)

    def on_message_complete(self) -> None:
        """Of httptools."""
        now = time.perf_counter()
        if self._parser.get_status_code() == 200:
            self._latencies_s.append(now - self._sent_s)
        else:
            self.failed += 1
        if now < self._until_s:
            self._ask()
        elif not self.done.done():
            self.done.set_result(None)
            self._transport.close()

    def _ask(self) -> None:
        self._sent_s = time.perf_counter()
        self._transport.write(self._request)


async def load(port: int, request: bytes, connections: int, seconds: float) -> dict[str, float]:
    """Rate (requests/s), percentiles (microseconds) and failures of a run."""
    loop = asyncio.get_running_loop()
    latencies_s: list[float] = []
    began_s = time.perf_counter()
    until_s = began_s + seconds
    clients = [
        (
            await loop.create_connection(
                lambda: Client(request, until_s, latencies_s), "127.0.0.1", port
            )
        )[1]
        for _ in range(connections)
    ]
    await asyncio.wait([c.done for c in clients], timeout=seconds + 30)
    elapsed_s = time.perf_counter() - began_s
    latencies_s.sort()
    count = len(latencies_s)

    def at(share: float) -> float:
        return round(latencies_s[min(count - 1, int(count * share))] * 1e6, 1) if count else 0.0

    return {
        "rps": round(count / elapsed_s, 1),
        "p50_us": at(0.5),
        "p99_us": at(0.99),
        "answers": count,
        "failed": sum(c.failed for c in clients),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("connections", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--pad", type=int, default=0)
    parser.add_argument("--model", default="m")
    a = parser.parse_args()
    request = request_bytes(a.port, a.model, a.pad, stream=a.stream)
    print(json.dumps(uvloop.run(load(a.port, request, a.connections, a.seconds))))


if __name__ == "__main__":
    main()
