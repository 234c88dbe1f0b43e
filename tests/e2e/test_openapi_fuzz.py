"""The endpoints do as their OpenAPI description says, whatever is sent to them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve_apps.openapi import openapi
from tests.serve_apps.fake_pool import Engine
from tests.serve_apps.test_gateway import gateway_over, request

WHY = "schemathesis is not installed"
schemathesis: Any = pytest.importorskip("schemathesis", reason=WHY)
checks: Any = pytest.importorskip("schemathesis.specs.openapi.checks", reason=WHY)

pytestmark = pytest.mark.e2e

EXAMPLES = 50
DOCUMENT = openapi("0", pages=False)
POSTS = [path for path, methods in DOCUMENT["paths"].items() if "post" in methods]
CASES = [
    *((path, method.upper(), "positive") for path, m in DOCUMENT["paths"].items() for method in m),
    *((path, "POST", "negative") for path in POSTS),
]
CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as found:
        yield found


@pytest.mark.parametrize(("path", "method", "mode"), CASES)
def test_whatever_is_sent_the_answer_is_one_of_those_described(
    runner: asyncio.Runner, path: str, method: str, mode: str
) -> None:
    """Negative: bodies that break the description. An engine may still take what we need not."""
    operation = schemathesis.openapi.from_dict(DOCUMENT)[path][method]
    generation = schemathesis.GenerationMode(mode)
    asked = CHECKS if path != "/health" else CHECKS[1:]  # its 503 is an answer

    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
    @given(operation.as_strategy(generation_mode=generation), st.booleans())
    def answers_as_described(case: Any, known: bool) -> None:
        if known and isinstance(case.body, dict) and "model" in case.body:
            case.body["model"] = "m1"
        case.validate_response(runner.run(_ask(case)), checks=asked)

    answers_as_described()


async def _ask(case: Any) -> httpx.Response:
    given = case.as_transport_kwargs(base_url="http://pool")
    content = given.get("data")
    sent = {"headers": given.get("headers"), "params": given.get("params")}
    sent |= {"json": given["json"]} if given.get("json") is not None else {"content": content}
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(gateway_over(Engine()))
        return await request(gateway, given["method"], given["url"], **sent)
