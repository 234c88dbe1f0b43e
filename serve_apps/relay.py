"""One request on its way: its body read, an engine asked, the answer passed back as it comes."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from typing import TYPE_CHECKING

from starlette.types import Message, Receive, Scope, Send

from placement.plan import AUTO
from serve_apps.api_error import ApiError
from serve_apps.door import LEFT, PEN, Pen
from serve_apps.flow.nouns import Lease, Refused, Result
from serve_apps.guard.screen import too_large
from serve_apps.replies import (
    cut_event,
    decision_headers,
    internal,
    refusal_of,
    refused,
    unavailable,
    unknown_model,
)
from serve_apps.router.base import UnknownModelError
from serve_apps.seeing.record import Attempt, Outcome, RequestRecord
from serve_apps.upstream import Answer, EngineGoneError, SilentEngineError

if TYPE_CHECKING:
    from serve_apps.gateway import Gateway, Question

LONGEST_ANSWER_S = 3600.0
"""A plain answer that takes longer is given up; its first byte comes with its last."""
IDLE_S = 120.0
"""A stream that was begun and says nothing for so long is over."""
_DOWN = frozenset((502, 503, 504))
_USAGE = re.compile(rb'"completion_tokens"\s*:\s*(\d+)')
_EVENT_END = b"\n\n"
"""Stands between events alone: JSON escapes the line breaks of texts."""
_TAIL_BYTES = 4096
"""Engines tell usage at the end of an answer, within so many bytes."""
_RESULTS = {
    Outcome.OK: Result.OK,
    Outcome.CLIENT_ERROR: Result.CLIENT_ERROR,
    Outcome.ENGINE_ERROR: Result.ENGINE_ERROR,
}


log = logging.getLogger("orchestrator.gateway")


class ClientGoneError(Exception):
    """The client closed its connection before the answer was complete."""


class Call:
    """One completion, from its arrival to its last byte.

    A client that leaves cancels it wherever it stands, and with it the engine's work: at once
    where the server tells (`door.Left`), else as soon as ``receive`` does.
    """

    __slots__ = (
        "_answered",
        "_gateway",
        "_gone",
        "_headers",
        "_pen",
        "_send",
        "_started",
        "lease",
        "record",
    )

    def __init__(self, gateway: Gateway, request_id: str, path: str, send: Send) -> None:
        self.record = RequestRecord(request_id, time.time(), gateway.clock(), path)
        self.lease: Lease | None = None
        self._gateway = gateway
        self._send = send
        self._pen: Pen | None = None
        self._started = self._answered = self._gone = False
        self._headers: list[tuple[bytes, bytes]] = [(b"x-request-id", request_id.encode())]

    async def run(self, scope: Scope, receive: Receive) -> None:
        """Answer it, whatever becomes of it; one record is told at the end."""
        seeing, record = self._gateway.seeing, self.record
        if self._gateway.guard.settings.trace_headers:
            told = (value for name, value in scope["headers"] if name == b"traceparent")
            record.traceparent = next(told, b"").decode("latin-1")
        seeing.started(record)
        try:
            await self._watched(scope, receive)
        except ApiError as error:
            await self._fail(error)
        except ClientGoneError:
            record.outcome = Outcome.CANCELLED
        except asyncio.CancelledError:
            if not self._answered:
                record.outcome = Outcome.CANCELLED
            raise
        except Exception:
            if self._started:  # the server ends the connection: what came is seen to be cut
                raise
            log.exception("%s failed in the ingress", record.request_id)
            await self._fail(internal())
        finally:
            if self.lease is not None:
                self.lease.done(Result.CANCELLED)
            record.finished_s = self._gateway.clock()
            self._gateway.finished(record)

    async def _watched(self, scope: Scope, receive: Receive) -> None:
        extensions = scope.get("extensions") or {}
        left = extensions.get(LEFT)
        if left is None:
            await self._until_disconnect(scope, receive)
            return
        self._pen = extensions.get(PEN)
        task = asyncio.current_task()
        assert task is not None

        def leave() -> None:
            self._gone = True
            task.cancel()

        left.call = leave
        try:
            await self._serve(scope, receive)
        except asyncio.CancelledError:
            if not self._gone or task.uncancel():
                raise
            raise ClientGoneError from None
        finally:
            left.call = None

    async def _until_disconnect(self, scope: Scope, receive: Receive) -> None:
        """For servers that tell of a disconnect only when asked: the body first, then watch."""
        body: list[bytes] = []

        async def replay() -> Message:
            return {"type": "http.request", "body": body.pop(), "more_body": False}

        body.append(await read_body(scope, receive, self._gateway.max_body_bytes))
        work = asyncio.ensure_future(self._serve(scope, replay))
        watch = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done() and not self._answered:
                raise ClientGoneError
            await work
        finally:
            for pending in (work, watch):
                pending.cancel()
            await asyncio.gather(work, watch, return_exceptions=True)

    async def _serve(self, scope: Scope, receive: Receive) -> None:
        gateway, record = self._gateway, self.record
        headers = scope["headers"]
        caller = gateway.guard.admit(headers)
        record.tenant, record.key_id = caller.tenant, caller.key_id
        gateway.seeing.metrics.tenants.know((caller.tenant,))  # of the keys file: there are few
        body = await read_body(scope, receive, gateway.max_body_bytes)
        asked = gateway.ask(record, caller, body, headers)
        try:
            self.lease = await self._dispatch(asked)
            await self._relay(asked)
        finally:
            gateway.guard.charge(caller, record, asked.reserved, asked.answers)

    async def _dispatch(self, asked: Question) -> Lease:
        gateway, record = self._gateway, self.record
        began_s = gateway.clock()
        prompt, estimating = asked.route.prompt, gateway.estimating
        if prompt is not None and estimating is not None and asked.route.model == AUTO:
            await estimating.prepared(prompt, alone=gateway.seeing.open == 1)
        try:
            lease = await gateway.dispatcher.dispatch(asked.route, asked.caller, asked.deadline_s)
        except Refused as error:
            record.waited_s = gateway.clock() - began_s
            raise refused(error) from None
        except UnknownModelError as error:
            raise unknown_model(error) from None
        record.waited_s = lease.waited_s
        record.router_s = gateway.clock() - began_s - lease.waited_s
        return lease

    async def _relay(self, asked: Question) -> None:
        """Ask engines until one answers, as long as retries are to be had."""
        lease = self.lease
        while lease is not None:
            self.lease = lease
            self._decided(lease)
            result, answer = await self._try(lease, asked)
            if answer is not None:
                await self._pass_back(lease, answer)
                return
            lease.done(result)
            lease = self._gateway.dispatcher.retry(lease)
        raise unavailable(self.record.model, self.record.group, timed_out=result is Result.TIMEOUT)

    async def _try(self, lease: Lease, asked: Question) -> tuple[Result, Answer | None]:
        """An engine's answer, or how it failed to give one."""
        gateway, record = self._gateway, self.record
        record.attempts += 1
        began_s = gateway.clock()
        answer: Answer | None = None
        result = Result.CANCELLED
        try:
            answer = await gateway.upstream.ask(
                lease.replica.url,
                asked.path,
                asked.body_for(lease.decision.model),
                min(lease.patience_s, LONGEST_ANSWER_S),
                gateway.engine_headers(record),
                lambda: gateway.dispatcher.more_patience_s(lease),
            )
            if answer.status not in _DOWN:
                return Result.OK, answer
            answer.close()
            result = Result.ENGINE_ERROR
        except EngineGoneError:
            result = Result.UNREACHABLE
        except SilentEngineError:
            result = Result.TIMEOUT
        finally:
            if answer is None or result is not Result.CANCELLED:
                now_s = gateway.clock()
                where = lease.replica
                record.tried.append(
                    Attempt(where.group, where.id, began_s, None, now_s, result.value)
                )
        return result, None

    async def _pass_back(self, lease: Lease, answer: Answer) -> None:
        try:
            if answer.stream:
                await self._stream(lease, answer)
            else:
                await self._whole(lease, answer)
        finally:
            answer.close()  # an unfinished answer: the engine sees us leave, and stops

    async def _whole(self, lease: Lease, answer: Answer) -> None:
        body, record = answer.body, self.record
        record.first_byte_s = self._gateway.clock()
        record.outcome = _outcome(answer.status)
        record.output_tokens = _told_tokens(body[-_TAIL_BYTES:])
        lease.done(_RESULTS[record.outcome], record.output_tokens)
        await self._respond(answer.status, answer.headers, body)

    async def _stream(self, lease: Lease, answer: Answer) -> None:
        """Send each piece as it comes; the status goes out with the first, the end with the last.

        A piece that can be written at once is, in the call that brings it, and wakes nobody.
        """
        record, send, pen = self.record, self._send, self._pen
        lease.first_byte()
        record.first_byte_s = self._gateway.clock()
        record.output_tokens = events = 0  # counted as they go out: a client may leave early
        tail = b""

        def count(piece: bytes) -> None:
            nonlocal events, tail
            events += piece.count(_EVENT_END)
            record.output_tokens = events
            tail = piece if len(piece) >= _TAIL_BYTES else tail[-_TAIL_BYTES:] + piece
            lease.progress()

        def write(piece: bytes) -> bool:
            written = pen is not None and pen.piece(piece)
            if written:
                count(piece)
            return written

        await self._start(answer.status, answer.headers, pen)
        try:
            while True:
                if pen is not None:
                    await answer.pour(write, IDLE_S)
                piece = await answer.next(IDLE_S)
                count(piece)
                if answer.ended:
                    break
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        except (EngineGoneError, SilentEngineError) as error:
            record.outcome = Outcome.CUT
            silent = isinstance(error, SilentEngineError)
            lease.done(Result.TIMEOUT if silent else Result.CUT, events)
            await self._finish(cut_event())
            return
        record.outcome = _outcome(answer.status)
        told = _told_tokens(tail)
        record.output_tokens = told if told is not None else max(events - 1, 0)
        lease.done(_RESULTS[record.outcome], record.output_tokens)
        await self._finish(piece)

    def _decided(self, lease: Lease) -> None:
        gateway, record, decision = self._gateway, self.record, lease.decision
        record.model, record.group, record.reason = decision.model, decision.group, decision.reason
        record.replica = lease.replica.id
        record.dispatched_s = gateway.clock()
        record.predicted_ttft_s, record.predicted_tpot_s = (
            lease.predicted_ttft_s,
            lease.predicted_tpot_s,
        )
        record.predicted_output_tokens = decision.output_tokens
        record.predicted_quality, record.predicted_cost_usd = decision.quality, decision.cost_usd
        record.shed, record.router_fallback = lease.shed, decision.fallback
        self._headers[1:] = decision_headers(decision)
        gateway.feedback.note(record.request_id, decision)

    async def _fail(self, error: ApiError) -> None:
        """Answer with an error of ours; nothing must have been sent yet."""
        self.record.outcome, self.record.refusal = refusal_of(error)
        body = json.dumps(error.body).encode()
        more = [(name.encode(), value.encode()) for name, value in error.headers.items()]
        await self._respond(error.status, [(b"content-type", b"application/json"), *more], body)

    async def _respond(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        length = b"content-length", b"%d" % len(body)
        whole = [*headers, length, *self._headers]
        if self._pen is not None and self._pen.whole(status, whole, body):
            self._started = self._answered = True
            self.record.status = status
            return
        await self._start(status, [*headers, length])
        await self._finish(body)

    async def _start(
        self, status: int, headers: list[tuple[bytes, bytes]], pen: Pen | None = None
    ) -> None:
        """Send the head; with a ``pen``, of an answer whose length is not told."""
        self._started = True
        self.record.status = status
        headers = headers + self._headers
        if pen is None or not pen.begin(status, headers):
            await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def _finish(self, last: bytes) -> None:
        self._answered = True
        if self._pen is None or not self._pen.last(last):
            await self._send({"type": "http.response.body", "body": last, "more_body": False})


async def read_body(scope: Scope, receive: Receive, limit_bytes: int) -> bytes:
    """The request's body.

    Raises:
        ApiError: 413, the body is larger than ``limit_bytes``.
        ClientGoneError: the client left while sending it.
    """
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > limit_bytes:
            raise too_large(limit_bytes)
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        body: bytes = message.get("body", b"")
        if len(body) > limit_bytes:
            raise too_large(limit_bytes)
        return body
    chunks: list[bytes] = []
    size = 0
    while message["type"] != "http.disconnect":
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > limit_bytes:
            raise too_large(limit_bytes)
        if not message.get("more_body", False):
            return b"".join(chunks)
        message = await receive()
    raise ClientGoneError


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _outcome(status: int) -> Outcome:
    if status < 400:
        return Outcome.OK
    return Outcome.CLIENT_ERROR if status < 500 else Outcome.ENGINE_ERROR


def _told_tokens(tail: bytes) -> int | None:
    """The output tokens that the engine counted itself, where it says so."""
    found = _USAGE.findall(tail)
    return int(found[-1]) if found else None
