"""Who asks for a model without replicas is told when one will be there."""

from __future__ import annotations

import json

import httpx

from serve_apps.api import build_app
from serve_apps.flow.nouns import Replica
from serve_apps.gateway import Gateway
from tests.plan_builders import plan


async def asked(gateway: Gateway) -> httpx.Response:
    transport = httpx.ASGITransport(build_app(gateway))
    body = {"model": "m1", "messages": [{"role": "user", "content": "hi"}]}
    async with httpx.AsyncClient(transport=transport, base_url="http://pool") as client:
        return await client.post("/v1/chat/completions", content=json.dumps(body).encode())


async def test_retry_after_is_what_is_left_of_a_cold_start() -> None:
    now = [0.0]
    gateway = Gateway(plan(), clock=lambda: now[0])
    gateway.found([Replica("a0", "a", "http://127.0.0.1:9")])
    gateway.found([])
    gateway.scaled({"a": 0}, 40.0)
    asleep = await asked(gateway)
    gateway.scaled({"a": 1}, 40.0)
    now[0] += 15.0
    waking = await asked(gateway)
    await gateway.close()
    assert [asleep.status_code, waking.status_code] == [503, 503]
    assert [asleep.headers["retry-after"], waking.headers["retry-after"]] == ["60", "25"]
