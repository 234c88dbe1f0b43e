"""The ingress's own words to clients: refusals, errors, and what an answer's headers tell."""

from __future__ import annotations

import functools
import json
import math

from serve_apps.api_error import ApiError
from serve_apps.flow.nouns import Refused
from serve_apps.router.base import Decision, UnknownModelError
from serve_apps.seeing.record import Outcome, Refusal

RETRY_AFTER_S = 1
_BY_CODE = {
    "model_not_found": Refusal.UNKNOWN_MODEL,
    "overload": Refusal.OVERLOAD,
    "queue_full": Refusal.QUEUE_FULL,
    "deadline": Refusal.DEADLINE,
    "unavailable": Refusal.UNAVAILABLE,
    "insufficient_quota": Refusal.BUDGET,
}
_BY_STATUS = {
    401: Refusal.UNAUTHENTICATED,
    403: Refusal.FORBIDDEN,
    413: Refusal.TOO_LARGE,
    429: Refusal.RATE_LIMIT,
}


def refused(why: Refused) -> ApiError:
    """The answer to a request that the dispatcher does not take: 429, or 503 without engines."""
    wait_s = {"retry-after": str(max(1, math.ceil(why.retry_after_s)))}
    if why.kind == "unavailable":
        return ApiError(503, why.message, kind="server_error", code=why.kind, headers=wait_s)
    return ApiError(429, why.message, kind="rate_limit_error", code=why.kind, headers=wait_s)


def unavailable(model: str, group: str, *, timed_out: bool) -> ApiError:
    """The answer when engines failed before the first byte, and no other is to be tried."""
    said = "did not answer in time" if timed_out else "could not be reached, or went away"
    return ApiError(
        504 if timed_out else 503,
        f"the engines of group {group!r} ({model}) {said}; try again",
        kind="server_error",
        code="engine_timeout" if timed_out else "engine_unavailable",
        headers={"retry-after": str(RETRY_AFTER_S)},
    )


def starting() -> ApiError:
    """The answer before there is a plan."""
    return ApiError(
        503,
        "the pool has no plan yet",
        kind="server_error",
        code="starting",
        headers={"retry-after": str(RETRY_AFTER_S)},
    )


def internal() -> ApiError:
    """The answer to a request on which the ingress itself failed; the log says how."""
    return ApiError(500, "internal error of the ingress", kind="server_error", code="internal")


def unknown_model(error: UnknownModelError) -> ApiError:
    """OpenAI's answer to a model that is not there."""
    return ApiError(404, str(error), param="model", code="model_not_found")


@functools.cache
def cut_event() -> bytes:
    """An error event; the blank line first ends an event that the engine left half written."""
    error = ApiError(
        502,
        "the engine went away in the middle of this answer; it is incomplete",
        kind="server_error",
        code="stream_cut",
    )
    return b"\n\ndata: " + json.dumps(error.body).encode() + b"\n\n"


def refusal_of(error: ApiError) -> tuple[Outcome, Refusal | None]:
    """How a request ended that was answered with an error of ours, and why it was refused."""
    code, status = error.body["error"]["code"], error.status
    if code in ("engine_timeout", "engine_unavailable"):
        return (Outcome.TIMEOUT if status == 504 else Outcome.UNAVAILABLE), None
    if status >= 500:
        starting = code in ("unavailable", "starting")
        return (
            (Outcome.UNAVAILABLE, Refusal.UNAVAILABLE)
            if starting
            else (Outcome.INTERNAL_ERROR, None)
        )
    refusal = _BY_CODE.get(str(code)) or _BY_STATUS.get(status, Refusal.INVALID)
    if refusal in (Refusal.OVERLOAD, Refusal.QUEUE_FULL, Refusal.DEADLINE):
        return Outcome.OVERLOADED, refusal
    limited = refusal in (Refusal.RATE_LIMIT, Refusal.BUDGET)
    return (Outcome.LIMITED if limited else Outcome.CLIENT_ERROR), refusal


def decision_headers(decision: Decision) -> list[tuple[bytes, bytes]]:
    """What the answer tells of the choice; the last two only where a learned router made it."""
    told = [
        (b"x-orchestrator-model", _name_bytes(decision.model)),
        (b"x-orchestrator-group", _name_bytes(decision.group)),
        (b"x-orchestrator-reason", header_bytes(decision.reason)),
    ]
    if decision.quality is not None:
        told.append((b"x-orchestrator-predicted-quality", b"%.3f" % decision.quality))
    if decision.cost_usd is not None:
        told.append((b"x-orchestrator-predicted-cost-usd", b"%.3g" % decision.cost_usd))
    return told


@functools.lru_cache
def _name_bytes(name: str) -> bytes:
    return header_bytes(name)


def header_bytes(value: str) -> bytes:
    """Printable ASCII, as every HTTP library takes it; anything else is escaped."""
    if value.isascii() and value.isprintable():
        return value.encode()
    safe = value.encode("ascii", "backslashreplace").decode()
    return "".join(ch if ch.isprintable() else repr(ch)[1:-1] for ch in safe).encode()
