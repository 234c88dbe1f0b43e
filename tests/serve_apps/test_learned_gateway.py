"""The gateway with a learned router: easy prompts to the small model, wishes heeded, judged."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from placement.explanation import Prices
from placement.plan import Plan
from serve_apps.api import build_app
from serve_apps.flow.nouns import Replica
from serve_apps.gateway import Gateway
from serve_apps.router.artefact import Artefact
from serve_apps.router.learned import LearnedRouter
from tests.plan_builders import group, plan, route
from tests.router_builders import artefact, planned_router, text
from tests.serve_apps.fake_pool import Engine

CHAT = "/v1/chat/completions"
POOL = ("m1", "m2")


def two_models(**router: Any) -> Plan:
    """Model m1 in group ``a``, m2 in ``b`` at five times the price; quality is worth a little."""
    made = plan(
        (group("a", "m1"), group("b", "m2").model_copy(update={"usd_per_hour": 0.5})),
        (route({"a": 0.5, "b": 0.5}),),
    )
    prices = Prices(quality={"auto": 5.0}, load={"a": 0.12, "b": 0.6})
    return made.model_copy(update={"prices": prices, "router": planned_router(POOL, **router)})


@contextlib.asynccontextmanager
async def gateway_with(
    p: Plan | None = None, made: Artefact | None = None, feedback: Path | None = None
) -> AsyncIterator[tuple[Gateway, Engine]]:
    engine = Engine()
    async with engine.serve() as url:
        gateway = Gateway()
        gateway.found([Replica(name, name, url) for name in "ab"])
        p = p or two_models()
        made = made or artefact(POOL, [[0.1 * i, 0.9] for i in range(10)])
        gateway.configure(p, LearnedRouter(p, made), feedback)
        yield gateway, engine
        await gateway.close()


async def request(gateway: Gateway, path: str, body: Any, **headers: str) -> httpx.Response:
    transport = httpx.ASGITransport(build_app(gateway))
    async with httpx.AsyncClient(transport=transport, base_url="http://pool") as client:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {k.replace("_", "-"): v for k, v in headers.items()}
        return await client.post(path, content=content, headers=named)


async def chat(
    gateway: Gateway, content: Any, model: str = "auto", *, headers: Any = None, **fields: Any
) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": content}], **fields}
    return await request(gateway, CHAT, body, **(headers or {}))


async def test_easy_and_hard_prompts_go_to_different_models() -> None:
    routes = tuple(route({g: 1.0}).model_copy(update={"difficulty": k}) for k, g in enumerate("ab"))
    p = two_models(edges=[0.3]).model_copy(update={"routes": routes})
    async with gateway_with(p) as (gateway, engine):
        light = await chat(gateway, text(0.9, 0.95))
        heavy = await chat(gateway, text(0.2, 0.9))
    assert light.headers["x-orchestrator-model"] == "m1"
    assert heavy.headers["x-orchestrator-model"] == "m2"
    assert [json.loads(b)["model"] for b in engine.bodies] == ["m1", "m2"]
    assert float(light.headers["x-orchestrator-predicted-quality"]) > 0.5
    assert 0 < float(heavy.headers["x-orchestrator-predicted-cost-usd"]) < 1
    assert "difficulty 1" in heavy.headers["x-orchestrator-reason"]


@pytest.mark.parametrize(
    ("model", "headers", "chosen"),
    [
        ("auto:cost", {}, "m1"),
        ("auto:quality=1", {}, "m2"),
        ("auto:cost=0.000001", {}, "m1"),
        ("auto", {"x-orchestrator-quality": "1.0"}, "m2"),
        ("auto:cost", {"x-orchestrator-quality": "1.0"}, "m1"),
        ("m2", {}, "m2"),
        ("m1", {"x-orchestrator-quality": "1.0"}, "m1"),
    ],
)
async def test_a_wish_is_heeded_and_a_name_pins(
    model: str, headers: dict[str, str], chosen: str
) -> None:
    async with gateway_with() as (gateway, engine):
        answer = await chat(gateway, text(0.5, 0.9), model, headers=headers)
    assert answer.headers["x-orchestrator-model"] == chosen
    assert json.loads(engine.bodies[0])["model"] == chosen


@pytest.mark.parametrize(
    "model",
    ["auto:", "auto:quality", "auto:quality=2", "auto:quality=x", "auto:cost=-1", "auto:speed=1",
     "auto:quality=1_0", "auto:cost=nan"],
)  # fmt: skip
async def test_a_malformed_suffix_is_a_400_that_says_what_is_expected(model: str) -> None:
    async with gateway_with() as (gateway, engine):
        answer = await chat(gateway, text(0.5, 0.9), model)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model")
    assert "auto:quality=0.95" in answer.json()["error"]["message"]
    assert engine.bodies == []


async def test_a_malformed_header_is_a_400() -> None:
    async with gateway_with() as (gateway, _):
        answer = await chat(gateway, "1 1 1", headers={"x-orchestrator-quality": "95%"})
    assert answer.status_code == 400
    assert "'95%'" in answer.json()["error"]["message"]


async def test_without_a_learned_router_a_wish_is_a_400() -> None:
    async with gateway_with() as (gateway, _):
        gateway.configure(two_models())
        answer = await chat(gateway, "x", "auto:quality=0.9")
        plain = await chat(gateway, "x")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "no_learned_router")
    assert plain.status_code == 200


async def test_a_request_that_cannot_be_estimated_is_answered_all_the_same() -> None:
    async with gateway_with() as (gateway, _):
        answer = await chat(gateway, "no numbers in here, naïve ☃\n")
        ids = await request(gateway, "/v1/completions", {"model": "auto", "prompt": [1, 2]})
        assert fallbacks(gateway) == 1
    assert (answer.status_code, ids.status_code) == (200, 200)
    assert answer.headers["x-orchestrator-reason"].startswith("no estimate: ValueError; 50% of")
    assert ids.headers["x-orchestrator-reason"].startswith("no text to judge by")
    assert "x-orchestrator-predicted-quality" not in answer.headers


@pytest.mark.parametrize("how", ["header", "user", "prompt_cache_key"])
async def test_a_session_keeps_its_group(how: str) -> None:
    p = plan((group("a", "m1"), group("b", "m1")), (route({"a": 0.5, "b": 0.5}),))
    p = p.model_copy(update={"router": planned_router(POOL)})
    headers = {"x-session-id": "s"} if how == "header" else {}
    fields = {} if how == "header" else {how: "s"}
    async with gateway_with(p) as (gateway, _):
        answers = [await chat(gateway, text(0.5, 0.5), headers=headers, **fields) for _ in range(4)]
        others = [await chat(gateway, text(0.5, 0.5)) for _ in range(4)]
    assert len({a.headers["x-orchestrator-group"] for a in answers}) == 1
    assert len({a.headers["x-orchestrator-group"] for a in others}) == 2


async def test_a_group_that_is_gone_makes_way_for_the_other() -> None:
    async with gateway_with() as (gateway, _):
        [_, b] = gateway.replicas
        gateway.found([b])
        answer = await chat(gateway, text(0.5, 0.9), "auto:cost")
    assert answer.headers["x-orchestrator-group"] == "b"
    assert answer.headers["x-orchestrator-reason"].endswith("not a")


async def test_prompts_that_arrive_together_are_estimated_as_alone() -> None:
    async with gateway_with() as (gateway, _):
        prompts = [text(0.1 * i, 0.9) for i in range(8)]
        alone = [await chat(gateway, p) for p in prompts]
        together = await asyncio.gather(*(chat(gateway, p) for p in prompts))
    quality = "x-orchestrator-predicted-quality"
    assert [a.headers[quality] for a in alone] == [a.headers[quality] for a in together]


async def test_a_learned_router_that_breaks_loses_no_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with gateway_with() as (gateway, engine):
        monkeypatch.setattr(LearnedRouter, "route", broken)
        answers = [await chat(gateway, text(0.5, 0.9)) for _ in range(5)]
        assert fallbacks(gateway) == 5
    assert {a.status_code for a in answers} == {200}
    assert len(engine.bodies) == 5


async def test_a_learned_router_that_hangs_holds_up_no_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go = threading.Event()
    monkeypatch.setattr(LearnedRouter, "prepare", lambda *_: go.wait(60))
    async with gateway_with() as (gateway, _), asyncio.timeout(30):
        answers = [await chat(gateway, text(0.5, 0.9)) for _ in range(5)]
        go.set()
        assert fallbacks(gateway) == 5
    assert {a.status_code for a in answers} == {200}
    assert {a.headers["x-orchestrator-reason"][:21] for a in answers} == {"no estimate in time; "}


def fallbacks(gateway: Gateway) -> float:
    return sum(gateway.seeing.metrics.fallbacks.values.values())


def broken(*_args: Any, **_kwargs: Any) -> Any:
    raise MemoryError


async def test_feedback_is_written_down_once(tmp_path: Path) -> None:
    log = tmp_path / "feedback.jsonl"
    async with gateway_with(feedback=log) as (gateway, _):
        request_id = (await chat(gateway, text(0.5, 0.9))).headers["x-request-id"]
        body = {"request_id": request_id, "score": 0.25}
        first = await request(gateway, "/v1/feedback", body)
        again = await request(gateway, "/v1/feedback", body)
    assert first.status_code == 200
    assert first.json()["score"] == 0.25
    assert again.status_code == 409
    [line] = [json.loads(text) for text in log.read_text().splitlines()]
    assert (line["request_id"], line["score"]) == (request_id, 0.25)
    assert line["predicted_quality"] is not None


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        ([], 400),
        ({"request_id": "req_1"}, 400),
        ({"request_id": "req_1", "score": 1.5}, 400),
        ({"request_id": "req_1", "score": "good"}, 400),
        ({"request_id": "req_1", "score": True}, 400),
        (b'{"request_id": "req_1", "score": NaN}', 400),
        ({"request_id": 7, "score": 1}, 400),
        ({"request_id": "req_1", "score": 1, "sore": 2}, 400),
        ({"request_id": "req_1", "score": 1}, 404),
    ],
)
async def test_feedback_that_is_wrong_says_how(body: Any, status: int) -> None:
    async with gateway_with() as (gateway, _):
        answer = await request(gateway, "/v1/feedback", body)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]


async def test_feedback_teaches_a_bandit() -> None:
    async with gateway_with(two_models(policy="lin_ucb")) as (gateway, _):
        chosen = []
        for _ in range(40):
            answer = await chat(gateway, text(0.8, 0.82))
            model = answer.headers["x-orchestrator-model"]
            chosen.append(model)
            request_id = answer.headers["x-request-id"]
            score = 1.0 if model == "m2" else 0.0
            body = {"request_id": request_id, "score": score}
            await request(gateway, "/v1/feedback", body)
    assert set(chosen[-10:]) == {"m2"}


async def test_what_feedback_taught_outlives_the_process(tmp_path: Path) -> None:
    log = tmp_path / "feedback.jsonl"

    async def asked(times: int, *, judge: bool) -> list[str]:
        chosen = []
        async with gateway_with(two_models(policy="lin_ucb"), feedback=log) as (gateway, _):
            for _ in range(times):
                answer = await chat(gateway, text(0.8, 0.82))
                chosen.append(answer.headers["x-orchestrator-model"])
                score = 1.0 if chosen[-1] == "m2" else 0.0
                body = {"request_id": answer.headers["x-request-id"], "score": score}
                if judge:
                    await request(gateway, "/v1/feedback", body)
        return chosen

    before = await asked(40, judge=True)
    assert before[0] != before[-1]
    assert set(await asked(5, judge=False)) == {before[-1]}


async def test_reasons_are_ascii_in_headers() -> None:
    p = two_models()
    async with gateway_with(p) as (gateway, _):
        answer = await chat(gateway, text(0.5, 0.9))
    for name, value in answer.headers.items():
        assert value.isascii(), name
