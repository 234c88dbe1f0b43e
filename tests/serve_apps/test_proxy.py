"""What runs in Serve's proxy keeps clients from choosing the request id."""

from starlette.types import Message, Receive, Scope, Send

from serve_apps.proxy import middlewares


async def answered_ids(own_ids: list[bytes], client_id: bytes) -> tuple[list[bytes], list[bytes]]:
    """Ids that the app saw, and ids in the answer."""
    seen: list[bytes] = []
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend(v for k, v in scope["headers"] if k == b"x-request-id")
        headers = [(b"X-Request-ID", i) for i in own_ids] + [(b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    [middleware] = middlewares()
    scope = {"type": "http", "headers": [(b"x-request-id", client_id), (b"accept", b"*/*")]}
    await middleware.cls(app)(scope, receive, send)
    assert (b"content-type", b"text/plain") in sent[0]["headers"]
    return seen, [v for k, v in sent[0]["headers"] if k.lower() == b"x-request-id"]


async def test_the_clients_id_is_dropped_and_the_ingress_id_wins() -> None:
    assert await answered_ids([b"ours", b"serve's"], b"evil") == ([], [b"ours"])


async def test_an_answer_without_an_id_stays_without() -> None:
    assert await answered_ids([], b"evil") == ([], [])
