"""The routes that let people and Prometheus look in; none is on a request's path.

Every one that shows data asks ``admin`` first. The page itself holds none: it fetches it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from serve_apps.api_error import ApiError
from serve_apps.guard.peer import Peer
from serve_apps.seeing.paths import (
    DASHBOARD_PATH,
    ENGINE_TARGETS_PATH,
    EXPLAIN_PATH,
    INGRESS_TARGETS_PATH,
    LIVE_PATH,
    METRICS_PATH,
)
from serve_apps.seeing.plain import finite
from serve_apps.seeing.seeing import Seeing
from serve_apps.seeing.targets import engine_targets, ingress_targets

NONCE = "@nonce@"

Headers = Iterable[tuple[bytes, bytes]]


Check = Callable[[Headers, Peer | None], None]
"""Told a call's headers and where it came from; raises `ApiError` for who may not look."""


def routes(seeing: Seeing, admin: Check, scrape: Check | None = None) -> list[Route]:
    """What to mount; ``scrape`` is asked for metrics, ``admin`` for all else, or for both."""
    may_scrape = scrape or admin

    async def metrics(request: Request) -> Response:
        may_scrape(request.headers.raw, _peer(request))
        text, content_type = seeing.render()
        return Response(text, headers={"content-type": content_type})

    async def live(request: Request) -> Response:
        admin(request.headers.raw, _peer(request))
        return _json(seeing.look())

    async def ingresses(request: Request) -> Response:
        admin(request.headers.raw, _peer(request))
        return _json(ingress_targets(seeing.snapshot(), METRICS_PATH, request.url.netloc))

    async def engines(request: Request) -> Response:
        admin(request.headers.raw, _peer(request))
        return _json(engine_targets(seeing.snapshot()))

    async def explain(request: Request) -> Response:
        admin(request.headers.raw, _peer(request))
        request_id = request.path_params["request_id"]
        found = seeing.explain(request_id)
        if found is None:
            raise _unknown(seeing, request_id)
        return _json(found)

    async def dashboard(_request: Request) -> Response:
        return page()

    return [
        Route(METRICS_PATH, metrics),
        Route(LIVE_PATH, live),
        Route(INGRESS_TARGETS_PATH, ingresses),
        Route(ENGINE_TARGETS_PATH, engines),
        Route(EXPLAIN_PATH, explain),
        Route(DASHBOARD_PATH, dashboard),
    ]


def page() -> Response:
    """The live page. It needs nothing else, and may load and run nothing else."""
    nonce = secrets.token_urlsafe(18)
    html = files("serve_apps.seeing").joinpath("data", "dashboard.html").read_text("utf-8")
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "no-store",
    }
    return Response(html.replace(NONCE, nonce), media_type="text/html", headers=headers)


def _peer(request: Request) -> Peer | None:
    if request.client is None:
        return None
    own_host, own_port = request.scope.get("server") or ("", 0)
    return Peer(request.client.host, request.client.port, own_host, own_port or 0)


def _json(data: object) -> Response:
    headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
    return JSONResponse(finite(data), headers=headers)


def _unknown(seeing: Seeing, request_id: str) -> ApiError:
    most = seeing.settings.journal
    return ApiError(
        404,
        f"no request {request_id[:80]!r} among the last {most:,} of ingress {seeing.ingress!r}; "
        "it may be older, or another ingress process had it",
        code="unknown_request",
    )
