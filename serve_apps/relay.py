"""One request on its way: reading its body, passing it to an engine, streaming the answer back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import aiohttp
from starlette.types import Message, Receive, Scope, Send

from serve_apps.metrics import NONE, Metrics, Outcome
from serve_apps.openai_api import ApiError
from serve_apps.replicas import NoReplicaError, ReplicaPicker
from serve_apps.router.base import Decision

ATTEMPTS = 2
"""Tries in one group: an engine that cannot be reached before its first byte is replaced once.

So many engines in all may go away while they hold a request: it could be the request's doing."""
RETRY_AFTER_S = 1
_PASSED_BACK = ("content-type", "retry-after", "cache-control", "x-emulated")


class ClientGoneError(Exception):
    """The client closed its connection before the answer was complete."""


class _UnreachableError(Exception):
    """The engine could not be reached, or went away before the first byte of its answer."""


async def read_body(scope: Scope, receive: Receive, limit_bytes: int) -> bytes:
    """The request's body.

    Raises:
        ApiError: 413, the body is larger than ``limit_bytes``.
        ClientGoneError: the client left while sending it.
    """
    declared = dict(scope["headers"]).get(b"content-length", b"0")
    if declared.isdigit() and int(declared) > limit_bytes:
        raise _too_large(limit_bytes)
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > limit_bytes:
            raise _too_large(limit_bytes)
        if not message.get("more_body", False):
            return b"".join(chunks)


async def until_disconnect(
    receive: Receive, work: Coroutine[Any, Any, None], answered: Callable[[], bool]
) -> None:
    """Run ``work`` to its end, or cancel it when the client goes away before it is answered.

    Servers report a disconnect after the last byte too: what is left then is tidying up.

    Raises:
        ClientGoneError: the client went away first.
    """
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done() and not answered():
            raise ClientGoneError
        await task
    finally:
        for pending in (task, watch):
            pending.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


class Call:
    """One request's course through the gateway, and its place in the metrics."""

    def __init__(self, metrics: Metrics, request_id: str, send: Send) -> None:
        self.outcome = Outcome.INTERNAL_ERROR
        self._metrics = metrics
        self.request_id = request_id
        self._send = send
        self._labels = (NONE, NONE)
        self._decided = False
        self._headers: dict[str, str] = {}
        self._lost = 0
        self._started = False
        self._answered = False
        self._arrived = time.perf_counter()

    def answered(self) -> bool:
        """Whether the last byte has been handed to the server."""
        return self._answered

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Count the request once, whatever becomes of it."""
        try:
            yield
        except asyncio.CancelledError:
            if not self._answered:
                self.outcome = Outcome.CANCELLED
            raise
        finally:
            self._metrics.requests.labels(*self._labels, self.outcome).inc()
            if self._decided:
                self._metrics.in_flight.labels(*self._labels).dec()
                self._metrics.duration.labels(*self._labels).observe(self._age_s())

    def decided(self, decision: Decision) -> None:
        """Note where the request goes; again, when it has to go elsewhere."""
        if self._decided:
            self._metrics.in_flight.labels(*self._labels).dec()
        self._labels = (decision.model, decision.group)
        self._headers = _decision_headers(decision)
        self._decided = True
        self._metrics.in_flight.labels(*self._labels).inc()

    async def fail(self, error: ApiError) -> None:
        """Answer with an error of ours; nothing must have been sent yet."""
        if error.status < 500 and error.status != 429:
            self.outcome = Outcome.CLIENT_ERROR
        headers = {"content-type": "application/json", **error.headers}
        await self._respond(error.status, headers, json.dumps(error.body).encode())

    async def relay(
        self,
        session: aiohttp.ClientSession,
        picker: ReplicaPicker,
        path: str,
        body: bytes,
        wait_s: float,
    ) -> None:
        """Pass the request to a replica of the group decided on, and its answer to the client.

        Raises:
            NoReplicaError: none is ready, or none could be reached: another group may take it.
            GroupBusyError: all stayed full for ``wait_s``: another group may take it.
            ApiError: 503, engines went away while they worked on it; no other should try.
        """
        avoid: set[str] = set()
        for attempt in range(ATTEMPTS):
            if attempt:
                self._metrics.retries.labels(*self._labels).inc()
            try:
                async with picker.pick(self._labels[1], avoid, wait_s) as replica:
                    return await self._exchange(session, replica.url + path, body)
            except _UnreachableError:
                avoid.add(replica.id)
            if self._lost == ATTEMPTS:
                raise self.unavailable()
        raise NoReplicaError(self._labels[1])

    async def _exchange(self, session: aiohttp.ClientSession, url: str, body: bytes) -> None:
        headers = {"content-type": "application/json", "x-request-id": self.request_id}
        try:
            answer = await session.post(url, data=body, headers=headers)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            raise _UnreachableError from None
        except (aiohttp.ClientError, TimeoutError):
            raise self._went_away() from None
        try:
            if answer.content_type == "text/event-stream":
                await self._stream(answer)
            else:
                await self._whole(answer)
        finally:
            answer.close()  # an unfinished answer: the engine sees us leave, and stops

    async def _whole(self, answer: aiohttp.ClientResponse) -> None:
        try:
            body = await answer.read()
        except (aiohttp.ClientError, TimeoutError):
            raise self._went_away() from None
        self.outcome = _outcome(answer.status)
        await self._respond(answer.status, _headers(answer), body)

    async def _stream(self, answer: aiohttp.ClientResponse) -> None:
        """Send each piece as it comes; the status goes out with the first."""
        try:
            async for chunk in answer.content.iter_any():
                if not self._started:
                    self._metrics.ttft.labels(*self._labels).observe(self._age_s())
                    await self._start(answer.status, _headers(answer))
                await self._send(_body(chunk, more=True))
        except (aiohttp.ClientError, TimeoutError):
            if not self._started:
                raise self._went_away() from None
            self.outcome = Outcome.CUT
            await self._finish(_cut_event())
            return
        if not self._started:
            await self._start(answer.status, _headers(answer))
        self.outcome = _outcome(answer.status)
        await self._finish(b"")

    async def _respond(self, status: int, headers: dict[str, str], body: bytes) -> None:
        await self._start(status, {**headers, "content-length": str(len(body))})
        await self._finish(body)

    async def _finish(self, last: bytes) -> None:
        self._answered = True
        await self._send(_body(last, more=False))

    async def _start(self, status: int, headers: dict[str, str]) -> None:
        own = {"x-request-id": self.request_id, **self._headers}
        raw = [(k.encode(), _header_bytes(v)) for k, v in {**headers, **own}.items()]
        self._started = True
        await self._send({"type": "http.response.start", "status": status, "headers": raw})

    def _went_away(self) -> _UnreachableError:
        """An engine that had the request is gone."""
        self._lost += 1
        return _UnreachableError()

    def unavailable(self) -> ApiError:
        """The answer when no group has an engine for the request."""
        self.outcome = Outcome.UNAVAILABLE
        model, group = self._labels
        return ApiError(
            503,
            f"no engine of group {group!r} ({model}) can be reached; try again",
            kind="server_error",
            code="engine_unavailable",
            headers={"retry-after": str(RETRY_AFTER_S)},
        )

    def busy(self) -> ApiError:
        """The answer when every engine that could take the request is full."""
        self.outcome = Outcome.OVERLOADED
        return ApiError(
            429,
            f"every engine of group {self._labels[1]!r} is full; try again",
            kind="rate_limit_error",
            code="overloaded",
            headers={"retry-after": str(RETRY_AFTER_S)},
        )

    def _age_s(self) -> float:
        return time.perf_counter() - self._arrived


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _body(chunk: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": chunk, "more_body": more}


def _decision_headers(decision: Decision) -> dict[str, str]:
    """What the answer tells of the choice; the last two only where a learned router made it."""
    told = {
        "x-orchestrator-model": decision.model,
        "x-orchestrator-group": decision.group,
        "x-orchestrator-reason": decision.reason,
    }
    if decision.quality is not None:
        told["x-orchestrator-predicted-quality"] = f"{decision.quality:.3f}"
    if decision.cost_usd is not None:
        told["x-orchestrator-predicted-cost-usd"] = f"{decision.cost_usd:.3g}"
    return told


def _header_bytes(value: str) -> bytes:
    """Printable ASCII, as every HTTP library takes it; anything else is escaped."""
    if value.isascii() and value.isprintable():
        return value.encode()
    safe = value.encode("ascii", "backslashreplace").decode()
    return "".join(ch if ch.isprintable() else repr(ch)[1:-1] for ch in safe).encode()


def _headers(answer: aiohttp.ClientResponse) -> dict[str, str]:
    return {name: answer.headers[name] for name in _PASSED_BACK if name in answer.headers}


def _outcome(status: int) -> Outcome:
    if status < 400:
        return Outcome.OK
    return Outcome.CLIENT_ERROR if status < 500 else Outcome.ENGINE_ERROR


def _cut_event() -> bytes:
    """An error event; the blank line first ends an event that the engine left half written."""
    error = ApiError(
        502,
        "the engine went away in the middle of this answer; it is incomplete",
        kind="server_error",
        code="stream_cut",
    )
    return b"\n\ndata: " + json.dumps(error.body).encode() + b"\n\n"


def _too_large(limit_bytes: int) -> ApiError:
    limit_mib = limit_bytes // (1024 * 1024)
    return ApiError(413, f"the body is larger than {limit_mib} MiB", code="body_too_large")
