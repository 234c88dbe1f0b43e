"""An emulated engine speaks vLLM's API, says what it is, and fails as it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from profiler.core import Profile
from profiler.emulated.api import DANGEROUS, State
from profiler.emulated.asked import Outputs
from profiler.emulated.engine import EmulatedEngine
from profiler.emulated.faults import Fault
from profiler.emulated.settings import Settings
from profiler.endpoint import describe, parse_metrics
from profiler.errors import InputError
from tests import builders

MODEL = "llama-8b"


def quick(**kwargs: Any) -> Profile:
    law = builders.step_time(base_s=1e-4, per_prefill_token_s=1e-7, per_sequence_s=0.0)
    return builders.profile(law=law, **({"max_model_len": 2048} | kwargs))


class Client:
    """An engine with a session to it."""

    def __init__(self, engine: EmulatedEngine, session: aiohttp.ClientSession) -> None:
        self.engine = engine
        self.session = session

    def post(self, path: str = "/v1/completions", **fields: Any) -> Any:
        body = {"model": MODEL, "prompt": "Say", "ignore_eos": True, "max_tokens": 4} | fields
        return self.session.post(self.engine.url + path, json=body)

    def get(self, path: str) -> Any:
        return self.session.get(self.engine.url + path)

    def fault(self, **fields: Any) -> Any:
        return self.session.post(self.engine.url + "/emulated/fault", json=fields)


@contextlib.asynccontextmanager
async def running(**kwargs: Any) -> AsyncIterator[Client]:
    settings = Settings(**({"profile": quick()} | kwargs))
    async with EmulatedEngine(settings) as engine, aiohttp.ClientSession() as session:
        yield Client(engine, session)


def events(text: str) -> list[dict[str, Any]]:
    found = [line.removeprefix("data: ") for line in text.splitlines() if line]
    assert found.pop() == "[DONE]"
    return [json.loads(event) for event in found]


def at_rest(state: State) -> bool:
    return state.in_flight == state.running == state.waiting == 0


async def test_an_openai_client_is_answered_whole_and_streamed() -> None:
    openai = pytest.importorskip("openai")
    async with (
        running() as client,
        openai.AsyncOpenAI(base_url=f"{client.engine.url}/v1", api_key="x") as api,
    ):
        told = [{"role": "user", "content": "12345678"}]
        whole = await api.chat.completions.create(model=MODEL, messages=told, max_tokens=3)
        assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (2, 3)
        assert whole.choices[0].message.content == " filler words of"
        stream = await api.chat.completions.create(
            model=MODEL, messages=told, max_tokens=8, stream=True, extra_body={"ignore_eos": True},
            stream_options={"include_usage": True},
        )  # fmt: skip
        chunks = [chunk async for chunk in stream]
        said = "".join(c.choices[0].delta.content for c in chunks if c.choices)
        assert said == " filler words of an emulated engine filler words"
        assert chunks[-2].choices[0].finish_reason == "length"
        assert chunks[-1].usage.completion_tokens == 8
        assert {c.system_fingerprint for c in chunks} == {whole.system_fingerprint}
        assert whole.system_fingerprint.startswith("emulated-llama-8b@1xA100-")


@pytest.mark.parametrize("path", ["/health", "/v1/models", "/metrics", "/version", "/nowhere"])
async def test_every_page_says_what_it_is(path: str) -> None:
    async with running() as client, client.get(path) as response:
        assert response.headers["x-emulated"] == "1"
        assert response.status == (404 if path == "/nowhere" else 200)


async def test_the_profiler_finds_what_it_asks_of_vllm() -> None:
    async with running() as client, aiohttp.ClientSession() as session:
        found = await describe(session, client.engine.url)
        assert (found.model, found.max_model_len) == (MODEL, 2048)
        assert (found.kv_capacity_tokens, found.kv_block_tokens) == (200_000, 16)
        async with client.post(prompt=[5] * 9, max_tokens=7) as response:
            assert (await response.json())["usage"]["prompt_tokens"] == 9
        async with client.get("/metrics") as response:
            samples = {s.name: s.value for s in parse_metrics(await response.text())}
    assert samples["vllm:prompt_tokens_total"] == 9
    assert samples["vllm:generation_tokens_total"] == 7
    assert samples["vllm:time_to_first_token_seconds_count"] == 1
    assert samples["vllm:num_requests_running"] == 0


async def test_usage_in_every_event_where_it_is_asked_for() -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    async with running() as client, client.post(stream=True, stream_options=options) as response:
        told = [e["usage"]["completion_tokens"] for e in events(await response.text())]
    assert told == [1, 2, 3, 4, 4]


async def test_several_prompts_and_choices_are_answered_in_one() -> None:
    async with running() as client, client.post(prompt=["a", "b"], n=2) as response:
        body = await response.json()
    assert [c["index"] for c in body["choices"]] == [0, 1, 2, 3]
    assert body["usage"] == {"prompt_tokens": 2, "completion_tokens": 16, "total_tokens": 18}


async def test_lengths_are_drawn_by_the_body_around_the_mean_and_capped() -> None:
    outputs = Outputs(mean_tokens=40)
    lengths = [outputs.draw(b"prompt %d" % i, 0) for i in range(4000)]
    assert sum(lengths) / len(lengths) == pytest.approx(40, rel=0.1)
    assert len(set(lengths)) > 50
    async with running(outputs=outputs) as client:
        seen = []
        for limit in (2000, 2000, 1):
            async with client.post(ignore_eos=False, max_tokens=limit) as response:
                body = await response.json()
                seen.append(
                    (body["usage"]["completion_tokens"], body["choices"][0]["finish_reason"])
                )
    assert seen[0][1] == "stop"
    assert seen[2] == (1, "length")


@pytest.mark.parametrize(
    ("fields", "status", "says"),
    [
        ({"prompt": [1] * 2000, "max_tokens": 49}, 400, "maximum context length is 2048"),
        ({"prompt": [1] * 3000}, 400, "maximum context length is 2048"),
        ({"max_tokens": 0}, 400, "max_tokens"),
        ({"prompt": []}, 400, "prompt"),
        ({"n": "many"}, 400, "n: expected"),
        ({"model": "other"}, 404, "`other` does not exist"),
    ],
)
async def test_what_cannot_be_answered_is_refused_as_vllm_does(
    fields: dict[str, Any], status: int, says: str
) -> None:
    async with running() as client, client.post(**fields) as response:
        error = (await response.json())["error"]
        assert (response.status, error["code"]) == (status, status)
        assert says in error["message"]
        assert client.engine.state().refused == 1


async def test_what_is_no_json_and_no_http_is_refused() -> None:
    async with running() as client, aiohttp.ClientSession() as session:
        async with session.post(f"{client.engine.url}/v1/completions", data=b"{") as response:
            assert response.status == 400
        host, port = client.engine.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"not http at all\r\n\r\n")
        assert b" 400 " in await reader.read()
        writer.close()


async def test_requests_on_one_connection_are_answered_in_order() -> None:
    async with running() as client:
        host, port = client.engine.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        body = json.dumps({"model": MODEL, "prompt": "x", "max_tokens": 3}).encode()
        head = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
        writer.write(head % len(body) + body)
        writer.write(b"GET /version HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        text = (await reader.read()).decode()
        assert 0 < text.index("text_completion") < text.index("0.0.0+emulated")
        writer.close()


async def test_what_a_gateway_must_not_pass_on_is_there() -> None:
    async with running() as client:
        for path in DANGEROUS:
            async with client.post(path) as response:
                assert response.status == 200


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_frees_the_engine(stream: bool) -> None:
    async with running(profile=builders.profile()) as client:
        asking = asyncio.ensure_future(client.post(max_tokens=30_000, stream=stream).__aenter__())
        await client.engine.until(lambda s: s.running == 1)
        if stream:
            (await asking).close()
        else:
            asking.cancel()
        state = await client.engine.until(at_rest)
        assert (state.aborted, state.finished, state.peak_in_flight) == (1, 0, 1)


async def test_a_client_that_leaves_the_queue_was_never_in_the_batch() -> None:
    async with running(profile=builders.profile(max_num_seqs=1)) as client:
        first = await client.post(max_tokens=30_000, stream=True).__aenter__()
        second = await client.post(max_tokens=30_000, stream=True).__aenter__()
        await client.engine.until(lambda s: (s.running, s.waiting) == (1, 1))
        second.close()
        state = await client.engine.until(lambda s: s.waiting == 0)
        assert state.running == 1
        first.close()
        await client.engine.until(at_rest)


async def test_an_error_strikes_the_share_and_the_number_asked_for() -> None:
    async with running() as client:
        async with client.fault(kind="error", status=503, requests=2):
            pass
        statuses = []
        for _ in range(4):
            async with client.post() as response:
                statuses.append(response.status)
        assert statuses == [503, 503, 200, 200]
        client.engine.set_fault(Fault(kind="error", probability=0.5))
        statuses = []
        for _ in range(40):
            async with client.post(max_tokens=1) as response:
                statuses.append(response.status)
        assert 8 < statuses.count(500) < 32
        assert client.engine.state().struck == statuses.count(500)
        client.engine.clear_fault()
        async with client.post() as response:
            assert response.status == 200


async def test_an_error_in_the_middle_is_an_event_of_the_stream() -> None:
    async with running(fault=Fault(kind="error", after_tokens=2)) as client:
        async with client.post(stream=True) as response:
            got = events(await response.text())
        assert [("error" in e) for e in got] == [False, False, True]
        await client.engine.until(at_rest)


async def test_a_cut_stream_ends_without_its_end() -> None:
    async with running(fault=Fault(kind="cut", after_tokens=2)) as client:
        async with client.post(stream=True) as response:
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()
        state = await client.engine.until(at_rest)
        assert (state.aborted, state.generation_tokens) == (1, 2)


async def test_a_hung_request_is_told_nothing_more_and_the_others_are() -> None:
    async with running(fault=Fault(kind="hang", after_tokens=1, requests=1)) as client:
        hung = await client.post(stream=True).__aenter__()
        assert await hung.content.readline()
        async with client.post() as other, client.get("/health") as health:
            assert (other.status, health.status) == (200, 200)
        state = client.engine.state()
        assert (state.in_flight, state.running) == (1, 0)
        hung.close()
        await client.engine.until(at_rest)


async def test_a_frozen_engine_answers_nobody_until_it_is_well() -> None:
    async with running() as client:
        async with client.fault(kind="freeze"):
            pass
        asked = [asyncio.ensure_future(client.get(p).__aenter__()) for p in ("/health", "/version")]
        async with client.get("/emulated/state?in_flight=2") as response:
            assert (await response.json())["fault"]["kind"] == "freeze"
        assert not any(a.done() for a in asked)
        async with client.session.delete(client.engine.url + "/emulated/fault"):
            pass
        for each in asyncio.as_completed(asked):
            assert (await each).status == 200


async def test_an_engine_that_refuses_comes_back_by_itself_on_its_port() -> None:
    async with running() as client, aiohttp.ClientSession() as other:
        async with client.fault(kind="refuse", for_s=0.05) as response:
            assert response.status == 200
        with pytest.raises(aiohttp.ClientConnectorError):
            await other.get(client.engine.url + "/health")
        await client.engine.until(lambda s: s.fault is None)
        await client.engine.listening()
        async with other.get(client.engine.url + "/health") as response:
            assert response.status == 200


async def test_refusing_for_ever_and_unknown_faults_are_refused() -> None:
    async with running() as client:
        for wrong in ({"kind": "refuse"}, {"kind": "sulk"}, {"kind": "slow", "factor": 0}):
            async with client.fault(**wrong) as response:
                assert response.status == 400


async def test_a_dead_engine_is_gone_with_all_its_streams() -> None:
    async with running(profile=builders.profile()) as client:
        stream = await client.post(max_tokens=30_000, stream=True).__aenter__()
        client.engine.set_fault(Fault(kind="die", after_tokens=2))
        with pytest.raises(aiohttp.ClientPayloadError):
            await stream.read()
        assert not client.engine.alive
        with pytest.raises(aiohttp.ClientConnectorError):
            await client.get("/health")


async def test_a_port_that_is_taken_is_named() -> None:
    async with running() as client:
        port = int(client.engine.url.rpartition(":")[2])
        with pytest.raises(InputError, match=f"port {port}"):
            await EmulatedEngine(quick(), port=port).start()


async def test_many_engines_share_a_process() -> None:
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(running()) for _ in range(12)]
        assert len({c.engine.url for c in clients}) == 12
        for client in clients:
            async with client.post(stream=True) as response:
                assert len(events(await response.text())) == 4
