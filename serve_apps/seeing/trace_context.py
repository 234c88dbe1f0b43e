"""A request's place in a W3C trace: the ids it is given, and what its engine is told of them."""

from __future__ import annotations

import random
import re

from serve_apps.seeing.record import RequestRecord

_ID = (1 << 64) - 1
_PARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


def begin(record: RequestRecord, share: float) -> None:
    """Give a request its ids: in the client's trace or a new one, for a ``share`` of all traces.

    The share is cut by the trace's id, so that every ingress keeps the same traces.
    """
    parent = _PARENT.fullmatch(record.traceparent)
    trace_id = int(parent[1], 16) if parent else 0
    if trace_id and parent and not int(parent[3], 16) & 1:
        return  # the client wants no trace
    trace_id = trace_id or random.getrandbits(128) | 1
    if (trace_id & _ID) < share * (_ID + 1):
        record.trace_id = trace_id
        record.span_id = random.getrandbits(63) + 1


def attempt_id(record: RequestRecord, index: int) -> int:
    """The span id of a request's try; known before the try, so that the engine can be told."""
    return (record.span_id + index + 1) & _ID or 1


def traceparent(record: RequestRecord) -> str:
    """The header for the next try: ours where the request is traced, else the client's if valid."""
    if record.trace_id:
        return f"00-{record.trace_id:032x}-{attempt_id(record, len(record.tried)):016x}-01"
    return record.traceparent if _PARENT.fullmatch(record.traceparent) else ""
