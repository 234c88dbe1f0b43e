"""The OpenAI API of the pool as an ASGI app: reads a little, routes, and passes bytes through.

Knows no Ray: replicas come from a `ReplicaPicker`. An answer streams from the engine's own HTTP
port to the client unchanged. When the client goes away the connection to the engine is closed,
which makes the engine drop the request.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Protocol

import aiohttp
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from placement.plan import Plan
from serve_apps import openai_api
from serve_apps.api_error import ApiError
from serve_apps.asking import Headers, route_request
from serve_apps.feedback import Feedback, Given
from serve_apps.metrics import Metrics, Outcome
from serve_apps.openai_api import ApiRequest
from serve_apps.relay import Call, ClientGoneError, read_body, until_disconnect
from serve_apps.replicas import GroupBusyError, NoReplicaError, ReplicaPicker
from serve_apps.router.base import (
    Decision,
    NoGroupLeftError,
    Router,
    RouteRequest,
    UnknownModelError,
)
from serve_apps.router.learned import LearnedRouter
from serve_apps.router.table import RouteTable

CONNECT_TIMEOUT_S = 5.0
QUEUE_TIMEOUT_S = 60.0
"""A request waits at most this long for a slot in a group, when no other can take it."""
SPILL_AFTER_S = 1.0
"""A request waits this long for a slot in a group that is full, before it goes to another."""


class Reader(Protocol):
    """Reads a body, with what a learned router looks at or without."""

    def __call__(self, body: bytes, *, prompts: bool = False) -> ApiRequest:
        """
        Raises:
            ApiError: 400, naming what is wrong.
        """
        ...


class Gateway:
    """State behind the API: the plan's router, the replicas, the pooled HTTP session, metrics."""

    def __init__(
        self,
        picker: ReplicaPicker,
        plan: Plan | None = None,
        queue_timeout_s: float = QUEUE_TIMEOUT_S,
        spill_after_s: float = SPILL_AFTER_S,
    ) -> None:
        self.picker = picker
        self.queue_timeout_s = queue_timeout_s
        self.spill_after_s = min(spill_after_s, queue_timeout_s)
        self.metrics = Metrics()
        self.feedback = Feedback()
        self._plan: Plan | None = None
        self._table: RouteTable | None = None
        self._learned: LearnedRouter | None = None
        self._started_s = int(time.time())
        self._session: aiohttp.ClientSession | None = None
        if plan is not None:
            self.configure(plan)

    def configure(
        self, plan: Plan, learned: LearnedRouter | None = None, feedback: Path | None = None
    ) -> None:
        """Route by this plan from the next request on; requests in flight are not disturbed.

        ``learned`` is the plan's learned router, ``feedback`` a file that judgements are added to.
        """
        if learned is not None and self._learned is not None:
            learned.take_over(self._learned)
        self._table = RouteTable(plan) if learned is None else learned.table
        self._learned = learned
        self._plan = plan
        self.feedback.path = feedback

    @property
    def router(self) -> Router:
        """What decides where a request goes."""
        return self._learned or self._configured()[1]

    @property
    def learned(self) -> bool:
        """Whether a learned router is in force."""
        return self._learned is not None

    def read(
        self, reader: Reader, body: bytes, headers: Headers
    ) -> tuple[ApiRequest, RouteRequest]:
        """A body as it was sent, and what the router is asked about it.

        Raises:
            ApiError: 400, malformed.
        """
        request = reader(body, prompts=self.learned)
        models = self._configured()[1].models
        return request, route_request(request, headers, models, learned=self.learned)

    def judge(self, body: bytes) -> Given:
        """Take in feedback, and let the router learn from it.

        Raises:
            ApiError: 400, 404 or 409, see `Feedback.give`.
        """
        given = self.feedback.give(body)
        if self._learned is not None and given.decision.ask is not None:
            self._learned.learn(given.decision.ask, given.decision.model, given.score)
        return given

    @property
    def plan(self) -> Plan:
        """The plan in force."""
        return self._configured()[0]

    @property
    def models(self) -> dict[str, int]:
        """What clients may ask for, and the longest context (tokens) each is sure to have."""
        plan, table = self._configured()
        limits = [(g.config.model, g.profile.max_model_len) for g in plan.groups]
        return {
            name: min(n for model, n in limits if model == name or name not in dict(limits))
            for name in table.models
        }

    @property
    def started_s(self) -> int:
        """Unix time at which this gateway started."""
        return self._started_s

    @property
    def session(self) -> aiohttp.ClientSession:
        """The one session to all engines; it pools connections and sets no total time limit."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=4),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
                auto_decompress=False,
            )
        return self._session

    async def close(self) -> None:
        """Close the connections to the engines."""
        if self._session is not None:
            await self._session.close()

    def decide(self, asked: RouteRequest, avoid: Collection[str] = ()) -> Decision | None:
        """Where the request goes; None when no group is left that it need not avoid.

        Raises:
            ApiError: 404, no such model in this pool.
        """
        try:
            return self.router.route(asked, avoid)
        except NoGroupLeftError:
            return None
        except UnknownModelError as error:
            raise unknown_model(error) from None

    def _configured(self) -> tuple[Plan, RouteTable]:
        if self._plan is None or self._table is None:
            raise ApiError(503, "the pool has no plan yet", kind="server_error", code="starting")
        return self._plan, self._table


def build_app(gateway: Gateway) -> Starlette:
    """The ASGI app: chat and text completions, models, health and metrics."""

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        await gateway.close()

    async def models(_request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [_card(gateway, m) for m in gateway.models]})

    async def model(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in gateway.models:
            raise unknown_model(UnknownModelError("model", name, gateway.models))
        return JSONResponse(_card(gateway, name))

    async def health(_request: Request) -> Response:
        ready = await gateway.picker.ready()
        groups = {g.name: ready.get(g.name, 0) for g in gateway.plan.groups}
        served = {g.config.model for g in gateway.plan.groups if groups[g.name]}
        healthy = served == {g.config.model for g in gateway.plan.groups}
        body = {"status": "ok" if healthy else "not ready", "ready_replicas": groups}
        return JSONResponse(body, 200 if healthy else 503)

    async def metrics(_request: Request) -> Response:
        text, content_type = gateway.metrics.render()
        return Response(text, media_type=content_type)

    async def feedback(request: Request) -> Response:
        given = gateway.judge(await request.body())
        body = {"object": "feedback", "request_id": given.request_id, "score": given.score}
        return JSONResponse(body | {"model": given.decision.model})

    chat, text = "/v1/chat/completions", "/v1/completions"
    return Starlette(
        routes=[
            Route(chat, Completions(gateway, chat, openai_api.read_chat), methods=["POST"]),
            Route(text, Completions(gateway, text, openai_api.read_completion), methods=["POST"]),
            Route("/v1/feedback", feedback, methods=["POST"]),
            Route("/v1/models", models),
            Route("/v1/models/{name:path}", model),
            Route("/health", health),
            Route("/metrics", metrics),
        ],
        exception_handlers={
            ApiError: _api_error,
            HTTPException: _http_error,
            Exception: _internal_error,
        },
        lifespan=lifespan,
    )


class Completions:
    """One completions endpoint: an ASGI app that relays to the engine's endpoint of that path."""

    def __init__(self, gateway: Gateway, path: str, read: Reader) -> None:
        self._gateway = gateway
        self._path = path
        self._read = read

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; ends early when the client goes away."""
        call = Call(self._gateway.metrics, f"req_{uuid.uuid4().hex}", send)
        with call.counted():
            try:
                body = await read_body(scope, receive, openai_api.MAX_BODY_BYTES)
                await until_disconnect(
                    receive, self._answer(call, body, scope["headers"]), call.answered
                )
            except ApiError as error:
                await call.fail(error)
            except ClientGoneError:
                call.outcome = Outcome.CANCELLED

    async def _answer(self, call: Call, body: bytes, headers: Headers) -> None:
        """Try the groups that may take the request, and last the first full one once more."""
        request, asked = self._gateway.read(self._read, body, headers)
        avoid: set[str] = set()
        full: Decision | None = None
        decision = self._gateway.decide(asked)
        while decision is not None:
            try:
                return await self._relay(call, request, decision, body, last=not decision.others)
            except GroupBusyError:
                if not decision.others:
                    raise call.busy() from None
                full = full or decision
            except NoReplicaError:
                pass
            avoid.add(decision.group)
            decision = self._gateway.decide(asked, avoid)
        if full is None:
            raise call.unavailable()
        try:
            await self._relay(call, request, full, body, last=True)
        except GroupBusyError:
            raise call.busy() from None
        except NoReplicaError:
            raise call.unavailable() from None

    async def _relay(
        self, call: Call, request: ApiRequest, decision: Decision, body: bytes, *, last: bool
    ) -> None:
        gateway = self._gateway
        call.decided(decision)
        gateway.feedback.note(call.request_id, decision)
        wait_s = gateway.queue_timeout_s if last else gateway.spill_after_s
        if request.model != decision.model:
            body = openai_api.with_model(body, decision.model)
        await call.relay(gateway.session, gateway.picker, self._path, body, wait_s)


def unknown_model(error: UnknownModelError) -> ApiError:
    """OpenAI's answer to a model that is not there."""
    return ApiError(404, str(error), param="model", code="model_not_found")


def _card(gateway: Gateway, name: str) -> dict[str, object]:
    return {
        "id": name,
        "object": "model",
        "created": gateway.started_s,
        "owned_by": "orchestrator",
        "max_model_len": gateway.models[name],
    }


async def _api_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse(error.body, error.status, headers=error.headers)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}"
    code = {404: "unknown_url", 405: "method_not_allowed"}.get(error.status_code)
    body = ApiError(error.status_code, message, code=code).body
    return JSONResponse(body, error.status_code, headers=error.headers)


async def _internal_error(_request: Request, _error: Exception) -> Response:
    body = ApiError(500, "internal error of the ingress", kind="server_error", code="internal").body
    return JSONResponse(body, 500)
