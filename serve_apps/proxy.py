"""What Ray Serve's HTTP proxy runs around every request.

Serve takes a client's ``x-request-id`` for its own and repeats it in the answer. A client must
not be able to choose the identity that our logs, the engine's and the answer carry.
"""

from __future__ import annotations

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_ID = b"x-request-id"


class OwnRequestId:
    """Drops the client's request id, and leaves one in the answer: the ingress's if it set one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""

        async def send_one_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": _first_id_only(message.get("headers", []))}
            await send(message)

        if scope["type"] == "http":
            headers = [h for h in scope["headers"] if h[0].lower() != REQUEST_ID]
            scope = {**scope, "headers": headers}
        await self._app(scope, receive, send_one_id)


def middlewares() -> list[Middleware]:
    """Serve's proxy asks for these by the environment variable that names this function."""
    return [Middleware(OwnRequestId)]


def _first_id_only(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    ids = [h for h in headers if h[0].lower() == REQUEST_ID]
    return [h for h in headers if h[0].lower() != REQUEST_ID] + ids[:1]
