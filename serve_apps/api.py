"""The ASGI app of the ingress: completions the short way, all other routes by Starlette."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from serve_apps.api_error import ApiError
from serve_apps.gateway import READERS, Gateway
from serve_apps.relay import Call, ClientGoneError, read_body
from serve_apps.replies import internal, unknown_model
from serve_apps.router.base import UnknownModelError
from serve_apps.seeing import pages

MOST_FEEDBACK_BYTES = 16 * 1024


class Api:
    """The app. It passes a completion on without any of Starlette's layers."""

    def __init__(self, gateway: Gateway, more: Sequence[BaseRoute] = ()) -> None:
        self._gateway = gateway
        self._rest = _rest(gateway, more)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        if scope["type"] == "http" and scope["path"] in READERS and scope["method"] == "POST":
            call = Call(self._gateway, f"req_{os.urandom(16).hex()}", scope["path"], send)
            await call.run(scope, receive)
        else:
            await self._rest(scope, receive, send)


def build_app(gateway: Gateway, more: Sequence[BaseRoute] = ()) -> Api:
    """The app over a gateway; ``more`` are routes beside the API's own."""
    return Api(gateway, more)


def _rest(gateway: Gateway, more: Sequence[BaseRoute]) -> ASGIApp:
    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        gateway.start()
        yield
        await gateway.close()

    async def models(request: Request) -> Response:
        caller = gateway.guard.admit(request.headers.raw)
        names = gateway.guard.visible(caller, gateway.table.models)
        cards = [_card(gateway, name, n) for name, n in gateway.models(names).items()]
        return JSONResponse({"object": "list", "data": cards})

    async def model(request: Request) -> Response:
        caller = gateway.guard.admit(request.headers.raw)
        names = gateway.guard.visible(caller, gateway.table.models)
        name = request.path_params["name"]
        if name not in names:
            raise unknown_model(UnknownModelError("model", name, names))
        return JSONResponse(_card(gateway, name, gateway.models([name])[name]))

    async def health(_request: Request) -> Response:
        healthy = gateway.serves_all
        body = {"status": "ok" if healthy else "not ready", "ready_replicas": gateway.ready}
        return JSONResponse(body, 200 if healthy else 503)

    async def ready(_request: Request) -> Response:
        gateway.was_ready = gateway.was_ready or gateway.serves_all
        return JSONResponse({"ready": gateway.was_ready}, 200 if gateway.was_ready else 503)

    async def feedback(request: Request) -> Response:
        gateway.guard.admit(request.headers.raw)
        given = gateway.judge(await read_body(request.scope, request.receive, MOST_FEEDBACK_BYTES))
        body = {"object": "feedback", "request_id": given.request_id, "score": given.score}
        return JSONResponse(body | {"model": given.decision.model})

    app = Starlette(
        routes=[
            *(Route(path, _not_allowed, methods=["POST"]) for path in READERS),
            Route("/v1/feedback", feedback, methods=["POST"]),
            Route("/v1/models", models),
            Route("/v1/models/{name:path}", model),
            Route("/health", health),
            Route("/health/ready", ready),
            *pages.routes(gateway.seeing, gateway.guard.admin, gateway.guard.scrape),
            *more,
        ],
        exception_handlers={
            ApiError: _api_error,
            ClientGoneError: _nobody_listens,
            HTTPException: _http_error,
            Exception: _internal_error,
        },
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return app


async def _not_allowed(_request: Request) -> Response:
    raise AssertionError("POST on a completions path takes the short way")


def _card(gateway: Gateway, name: str, context_tokens: int) -> dict[str, object]:
    return {
        "id": name,
        "object": "model",
        "created": gateway.started_s,
        "owned_by": "orchestrator",
        "max_model_len": context_tokens,
    }


async def _api_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse(error.body, error.status, headers=error.headers)


async def _nobody_listens(_request: Request, _error: Exception) -> Response:
    return Response(status_code=400)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}"
    code = {404: "unknown_url", 405: "method_not_allowed"}.get(error.status_code)
    body = ApiError(error.status_code, message, code=code).body
    return JSONResponse(body, error.status_code, headers=error.headers)


async def _internal_error(_request: Request, _error: Exception) -> Response:
    return JSONResponse(internal().body, 500)
