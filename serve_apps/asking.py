"""From what a client sent to what a router is asked."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable

from placement.plan import AUTO
from profiler.errors import InputError
from serve_apps.api_error import ApiError
from serve_apps.openai_api import ApiRequest
from serve_apps.router.base import RouteRequest
from serve_apps.router.policies.preference import Preference, parse_preference

QUALITY, SESSION = b"x-orchestrator-quality", b"x-session-id"
DEADLINE = b"x-orchestrator-deadline"
Headers = Iterable[tuple[bytes, bytes]]


def route_request(
    request: ApiRequest, headers: Headers, models: Collection[str], *, learned: bool
) -> RouteRequest:
    """The router's question; ``models`` are the names in force, ``learned``: their router learned.

    A name that is in force is taken as it is. A suffix of ``model`` goes before the header.

    Raises:
        ApiError: 400, a preference that is malformed, or that no router here can heed.
    """
    told = dict(headers)
    model, wish = request.model, None
    if model not in models:
        wish = _preference(model)
        model = AUTO if wish is not None else model
    if model == AUTO and (wish is None or wish.kind == "default") and QUALITY in told:
        wish = Preference("quality", _share(told[QUALITY]))
    if wish is not None and wish.kind != "default" and not learned:
        raise ApiError(
            400,
            f"asking for {wish.kind} needs a learned router, this service has none; expected "
            f"model to be one of {', '.join(models)}, and no {QUALITY.decode()}",
            param="model",
            code="no_learned_router",
        )
    session = told[SESSION].decode("latin-1") if told.get(SESSION) else request.session
    return RouteRequest(
        model,
        request.input_tokens,
        request.max_output_tokens,
        request.prompt,
        session,
        wish,
        request.stream,
        request.prefix,
    )


def deadline_s(headers: Headers, default_s: float | None) -> float | None:
    """Seconds within which the first byte is to come, as the client says; else the default.

    Raises:
        ApiError: 400, not a number of seconds.
    """
    for name, value in headers:
        if name == DEADLINE:
            text = value.decode("latin-1").strip()
            seconds = float(text) if re.fullmatch(r"\d{0,6}\.?\d{1,9}", text, re.ASCII) else 0.0
            if seconds <= 0:
                told = DEADLINE.decode()
                message = f"header {told}: found {text[:60]!r}, expected seconds above 0"
                raise ApiError(400, message, param=told, code="invalid_value")
            return seconds
    return default_s


def _preference(model: str) -> Preference | None:
    try:
        return parse_preference(model)
    except InputError as error:
        raise ApiError(400, str(error), param="model", code="invalid_value") from None


def _share(value: bytes) -> float:
    text = value.decode("latin-1").strip()
    share = float(text) if re.fullmatch(r"\d*\.?\d+", text, re.ASCII) else math.nan
    if not 0 < share <= 1:
        name = QUALITY.decode()
        message = f"header {name}: found {text[:60]!r}, expected a share above 0, at most 1"
        raise ApiError(400, message, param=name, code="invalid_value")
    return share
