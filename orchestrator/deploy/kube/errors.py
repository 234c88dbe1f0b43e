"""What an API server or the way to it says, in the user's terms."""

from __future__ import annotations

import json
import re
from typing import Any

from profiler.errors import ClusterError

QUOTA = re.compile(
    r"exceeded quota: (?P<name>[^,]+), requested: (?P<asked>\S+?), used: (?P<used>\S+?), "
    r"limited: (?P<limit>\S+)"
)
UNKNOWN_KIND = ("404 page not found", "the server could not find the requested resource")
"""What a server says of a group, in plain text, and of a kind in a group that it knows."""
MANAGER = re.compile(r'conflicts? with "(?P<manager>[^"]+)"')


class ApiError(ClusterError):
    """The API server refused a request.

    ``status`` is HTTP's. ``fields`` are those that another field manager holds, by manager.
    """

    def __init__(
        self, message: str, status: int, fields: dict[str, list[str]] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.fields = fields or {}


class AwayError(ClusterError):
    """The API server does not answer."""


PASSING = (429, 500, 502, 503, 504)
"""A server that is too busy, starts, or waits for its store answers so."""


def passes(error: ClusterError) -> bool:
    """Whether asking again in a while may help."""
    return isinstance(error, AwayError) or (isinstance(error, ApiError) and error.status in PASSING)


def refused(status: int, body: str | bytes | None, verb: str, what: str) -> ApiError:
    """An answer other than 2xx as an error that names what is missing and how to mend it."""
    answer = _answer(body)
    message = str(answer.get("message") or "").strip()
    held = _held(answer)
    match status:
        case 401:
            text = "the cluster does not accept the credentials; log in again"
        case 403:
            text = _forbidden(message, verb, what)
        case 404:
            text = _not_found(message, what)
        case 409:
            text = _conflict(message, what, held)
        case 422:
            text = f"{what}: the cluster does not accept it: {message}"
        case 500 if "typed patch object" in message:
            said = message.partition("): ")[2] or message
            text = (
                f"{what}: the cluster does not know a field that we set: {said}; its KubeRay is "
                "older than 1.5, or its resource definitions are"
            )
        case _:
            text = f"{what}: the cluster answered {status}: {message or 'nothing'}"
    return ApiError(text, status, held)


def unreachable(host: str, cause: BaseException) -> AwayError:
    """No answer at all."""
    reason = getattr(cause, "reason", cause)
    text = str(reason).rpartition(": ")[2] or type(cause).__name__
    return AwayError(
        f"the cluster at {host} cannot be reached: {text}; check the context and the network"
    )


def _answer(body: str | bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(body or "{}")
    except ValueError:
        text = body.decode(errors="replace") if isinstance(body, bytes) else body
        return {"message": text}
    return found if isinstance(found, dict) else {}


def _forbidden(message: str, verb: str, what: str) -> str:
    if quota := QUOTA.search(message):
        return (
            f"{what}: quota {quota['name']!r} allows {quota['limit']}, {quota['used']} are used, "
            f"{quota['asked']} more are asked for; raise the quota or plan with less"
        )
    return f"{what}: you may not {verb} it here: {message}; ask the cluster's admin for that right"


def _not_found(message: str, what: str) -> str:
    if 'namespaces "' in message:
        return (
            f"{what}: the namespace does not exist; make it, or set create_namespace: true in the "
            "settings"
        )
    if not message or message.startswith(UNKNOWN_KIND):
        return f"{what}: the cluster does not know this kind; install its operator first"
    return f"{what}: {message}"


def _conflict(message: str, what: str, held: dict[str, list[str]]) -> str:
    if not held:
        return f"{what}: it changed meanwhile: {message}; try again"
    who = "; ".join(f"{manager!r} holds {', '.join(fields)}" for manager, fields in held.items())
    return (
        f"{what}: managed by another: {who}; nothing was changed. Agree with them, or take these "
        "fields over with --force-conflicts"
    )


def _held(answer: dict[str, Any]) -> dict[str, list[str]]:
    """Fields by the manager that holds them, from the causes of a 409."""
    held: dict[str, list[str]] = {}
    for cause in (answer.get("details") or {}).get("causes") or ():
        if cause.get("reason") == "FieldManagerConflict":
            found = MANAGER.search(cause.get("message", ""))
            manager = found["manager"] if found else "another manager"
            held.setdefault(manager, []).append(cause.get("field", "?"))
    return held
