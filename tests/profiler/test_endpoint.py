"""An endpoint's own pages are read as far as they go; nonsense is an error that names the page."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from profiler.client import open_session
from profiler.endpoint import Endpoint, describe, parse_metrics
from profiler.errors import ClusterError, EngineError
from tests.fake_engine import FakeEngine


async def described(engine: FakeEngine, suffix: str = "", **options) -> Endpoint:
    async with engine.serve() as url, open_session() as session:
        return await describe(session, url + suffix, **options)


async def answering(status: int, text: str) -> Endpoint:
    """What is made of a server that answers every page alike."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, text=text)

    app = web.Application()
    app.router.add_get("/{page:.*}", answer)
    async with TestServer(app, host="127.0.0.1") as server, open_session() as session:
        return await describe(session, str(server.make_url("")))


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
async def test_all_pages_are_read_whatever_the_urls_end(suffix: str):
    found = await described(FakeEngine(running=2), suffix)
    assert (found.model, found.engine) == ("fake-model", "vllm 9.9.9")
    assert (found.max_model_len, found.kv_capacity_tokens) == (2048, 182 * 128)
    assert (found.kv_block_tokens, found.requests_in_flight) == (128, 2)


async def test_the_servers_own_figure_of_its_cache_goes_before_counted_blocks():
    found = await described(FakeEngine(kv_tokens=20_000))
    assert found.kv_capacity_tokens == 20_000


async def test_what_a_server_does_not_tell_is_none():
    found = await described(FakeEngine(kv_blocks=None, max_model_len=None))
    assert (found.max_model_len, found.kv_capacity_tokens) == (None, None)


async def test_a_server_with_models_alone_will_do():
    only_models = '{"data": [{"id": "m"}]}'
    found = await answering(200, only_models)
    assert (found.model, found.engine, found.kv_capacity_tokens) == ("m", "unknown", None)


@pytest.mark.parametrize(
    ("status", "text", "error", "words"),
    [
        (200, "<html>", EngineError, "did not answer with a model list"),
        (200, '{"data": [1]}', EngineError, "did not answer with a model list"),
        (200, '{"data": []}', EngineError, "serves no model"),
        (401, "", ClusterError, "HTTP 401, expected 200; check the URL and the API key"),
        (502, "", EngineError, "HTTP 502; look at the engine's log"),
    ],
)
async def test_a_wrong_model_list_is_explained(status, text, error, words):
    with pytest.raises(error, match=words) as raised:
        await answering(status, text)
    assert type(raised.value) is error


def test_metrics_are_parsed_with_labels_and_broken_lines_skipped():
    text = (
        "# HELP a b\n"
        'a{x="1",y="two, \\"quoted\\" }"} 3.5\n'
        "plain 2\n"
        "a_total{} NaN\n"
        "broken{ \n"
        "word word\n"
        "\n"
    )
    first, plain, total = parse_metrics(text)
    assert (first.name, first.value) == ("a", 3.5)
    assert first.labels["x"] == "1" and "quoted" in first.labels["y"]
    assert (plain.name, plain.labels, plain.value) == ("plain", {}, 2.0)
    assert total.value != total.value
