"""A plan becomes a pool of real vLLM on Ray Serve that an OpenAI client can use, and goes away."""

from __future__ import annotations

import asyncio
import json
import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.deploy.base import Status
from orchestrator.deploy.local import delete_local, deploy_local, local_status
from placement.plan import Plan
from profiler.client import open_session, random_token_ids, replay, stream_completion
from profiler.core import Slo, StepTime
from profiler.engine import free_port
from profiler.saturation import Trial, bucket_of, saturate
from profiler.traces import Trace
from serve_apps.pool import ENGINE_KEY
from tests import builders
from tests.e2e.real_engine import CONTEXT_TOKENS, MODEL, installed, real_plan
from tests.e2e.scaling import Autoscaler, Load, Pool
from tests.plan_builders import route
from tests.processes import descendants, none_left

pytestmark = [pytest.mark.e2e, pytest.mark.alone, installed("openai")]

KEY = {"authorization": "Bearer k-1"}
"""What engines of the pool ask for."""
WAIT_S = 900.0
TELL = [{"role": "user", "content": "Tell me a long story about the sea."}]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state") / "orchestrator"


@pytest.fixture(scope="module")
def pool(root: Path) -> Iterator[Status]:
    """The one engine that the tests of this module share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ENGINE_KEY, KEY["authorization"].removeprefix("Bearer "))
        status = deploy_local(real_plan(), port=free_port(), wait_s=WAIT_S, root=root)
    yield status
    delete_local("e2e", root=root)


@pytest.fixture
def client(pool: Status) -> Iterator[Any]:
    import openai

    with openai.OpenAI(base_url=pool.url, api_key="none", max_retries=0, timeout=300) as made:
        yield made


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read().decode()


def engine_url(root: Path) -> str:
    status = local_status("e2e", root)
    assert status is not None
    log = status.groups[0].log
    assert log is not None
    found = re.search(r"Starting vLLM server on (http://\S+)", Path(log).read_text())
    assert found is not None
    return found[1]


def running_in(engine: str) -> float:
    found = re.search(r"^vllm:num_requests_running\{.*\} (\S+)", get(f"{engine}/metrics"), re.M)
    assert found is not None
    return float(found[1])


def until_running(engine: str, wanted: int) -> None:
    """Ask the engine until it works on that many requests; fails after half a minute."""
    for _ in range(300):
        if running_in(engine) == wanted:
            return
        time.sleep(0.1)
    pytest.fail(f"the engine still works on {running_in(engine)} requests, expected {wanted}")


def ingress_of(pool: Status) -> list[int]:
    """The process of the ingress, which Ray names."""
    name = b"ray::ServeReplica:Ingress:ingress"
    commands = ((p, Path(f"/proc/{p}/cmdline").read_bytes()) for p in descendants(pool.pid))
    return [pid for pid, command in commands if command.startswith(name)]


def test_chat_answers_through_the_pool(client: Any) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="auto", messages=[{"role": "user", "content": "Say hello."}], max_tokens=16
    )
    answer = raw.parse()
    assert answer.choices[0].message.content.strip()
    assert answer.model == MODEL
    assert answer.usage.completion_tokens <= 16
    assert raw.headers["x-orchestrator-group"] == "smol"
    assert len(raw.headers.get_list("x-request-id")) == 1


def test_completions_answer_by_the_models_own_name(client: Any) -> None:
    answer = client.completions.create(
        model=MODEL, prompt="The capital of France is", max_tokens=8, temperature=0
    )
    assert "Paris" in answer.choices[0].text


def test_a_stream_ends_with_usage_when_asked(client: Any) -> None:
    chunks = list(
        client.chat.completions.create(
            model="auto", messages=TELL, max_tokens=12, stream=True,
            stream_options={"include_usage": True},
        )
    )  # fmt: skip
    assert chunks[-1].usage.completion_tokens == 12
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


def test_a_stream_without_usage_arrives_in_pieces(client: Any) -> None:
    stream = client.completions.create(model=MODEL, prompt="One,", max_tokens=10, stream=True)
    chunks = list(stream)
    assert len(chunks) > 5
    assert all(c.usage is None for c in chunks)


def test_models_are_listed(client: Any) -> None:
    assert [m.id for m in client.models.list()] == ["auto", MODEL]
    assert client.models.retrieve(MODEL).max_model_len == CONTEXT_TOKENS


def test_an_unknown_model_is_openais_not_found(client: Any) -> None:
    import openai

    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="smollm2-135", messages=TELL)
    assert caught.value.code == "model_not_found"
    assert MODEL in caught.value.message


def test_the_engines_own_refusal_passes_through(client: Any) -> None:
    import openai

    with pytest.raises(openai.BadRequestError, match=str(CONTEXT_TOKENS)):
        client.completions.create(model=MODEL, prompt="x", max_tokens=10 * CONTEXT_TOKENS)


def test_a_client_cannot_choose_the_request_id(client: Any) -> None:
    raw = client.completions.with_raw_response.create(
        model=MODEL, prompt="x", max_tokens=1, extra_headers={"x-request-id": "mine"}
    )
    [request_id] = raw.headers.get_list("x-request-id")
    assert request_id.startswith("req_")


def test_a_client_that_leaves_a_stream_frees_the_engine(client: Any, root: Path) -> None:
    stream = client.completions.create(
        model=MODEL, prompt="Once", max_tokens=1900, stream=True, extra_body={"ignore_eos": True}
    )
    next(iter(stream))
    engine = engine_url(root)
    until_running(engine, 1)
    stream.close()
    until_running(engine, 0)


def test_a_client_that_leaves_without_streaming_frees_the_engine(pool: Status, root: Path) -> None:
    import http.client
    from urllib.parse import urlsplit

    engine = engine_url(root)
    connection = http.client.HTTPConnection(urlsplit(pool.url).netloc, timeout=60)
    body = {"model": MODEL, "prompt": "Once", "max_tokens": 1900, "ignore_eos": True}
    connection.request("POST", "/v1/completions", json.dumps(body))
    until_running(engine, 1)
    connection.close()
    until_running(engine, 0)


def test_health_and_metrics_tell_how_the_pool_does(client: Any, pool: Status) -> None:
    base = pool.url.removesuffix("/v1")
    client.completions.create(model=MODEL, prompt="x", max_tokens=1)
    assert json.loads(get(f"{base}/health")) == {"status": "ok", "ready_replicas": {"smol": 1}}
    told = get(f"{base}/metrics")
    counted = re.findall(r"^orchestrator_requests_total\{(.*)\} [1-9]", told, re.M)
    labels = ('group="smol"', 'model="smollm2-135m"', 'outcome="ok"')
    assert any(all(label in found for label in labels) for found in counted)


async def met(engine: str, slo: Slo, rate_rps: float, requests: int) -> float:
    """The share of Poisson arrivals of saturation's size at an engine that met an SLO."""
    rng = np.random.default_rng(0)
    arrivals = np.cumsum(rng.exponential(1 / rate_rps, requests))
    sizes = {"input_tokens": np.full(requests, 64), "output_tokens": np.full(requests, 20)}
    trace = Trace(arrival_s=arrivals - arrivals[0], source="Poisson", **sizes)
    timings = await replay(engine, MODEL, trace, rng=rng, headers=KEY)
    return sum(t.meets(slo.ttft_s, slo.tpot_s) for t in timings) / len(timings)


async def test_the_saturation_rate_holds_and_a_rate_far_above_does_not(
    pool: Status, root: Path
) -> None:
    engine, rng = engine_url(root), np.random.default_rng(0)
    async with open_session() as session:
        for _ in range(2):  # the first pays for warming up
            prompt = random_token_ids(rng, 64)
            alone = await stream_completion(
                session, engine, MODEL, prompt, 20, exact_length=True, headers=KEY
            )
    assert alone.ttft_s and alone.tpot_s
    # All in multiples of what a lone request takes: the machine's speed is not at issue.
    slo = builders.slo(ttft_s=8 * alone.ttft_s, tpot_s=2.5 * alone.tpot_s, attainment=0.8)
    law = StepTime(
        base_s=alone.tpot_s,
        per_prefill_token_s=alone.ttft_s / 64,
        per_sequence_s=alone.tpot_s / 20,
        per_kv_token_s=0.0,
    )
    guess = real_plan().groups[0].profile.model_copy(update={"step_time": law})
    trials: list[Trial] = []
    found = await saturate(
        engine,
        MODEL,
        guess,
        slo,
        bucket_of(64, 20),
        budget_s=25 * (alone.ttft_s + 19 * alone.tpot_s),
        on_trial=trials.append,
        headers=KEY,
    )
    assert found.rate_rps > 0
    held = [t.attainment for t in trials if t.rate_rps == found.rate_rps]
    assert max(held) >= slo.attainment
    assert found.requests == sum(t.requests for t in trials)
    # A trial is some two dozen arrivals, so the rate found may be a half off either way; and an
    # engine overloaded for a moment only catches up, so what is far above must also last.
    assert await met(engine, slo, 0.5 * found.rate_rps, requests=20) >= slo.attainment
    assert await met(engine, slo, 4 * found.rate_rps, requests=80) < slo.attainment


def test_deploying_twice_changes_nothing(pool: Status, root: Path) -> None:
    port = int(pool.url.split(":")[2].removesuffix("/v1"))
    again = deploy_local(real_plan(), port=port, wait_s=60, root=root)
    assert again.pid == pool.pid
    assert "nothing changed" in again.message


def test_a_plan_with_other_routes_leaves_engine_and_ingress_alone(
    client: Any, pool: Status, root: Path
) -> None:
    port = int(pool.url.split(":")[2].removesuffix("/v1"))
    engine, ingresses = engine_url(root), ingress_of(pool)
    changed = real_plan(rate_rps=2.0)
    status = deploy_local(changed, port=port, wait_s=120, root=root)
    assert (status.state, status.plan_digest) == ("running", changed.digest)
    assert engine_url(root) == engine
    assert set(ingress_of(pool)) == set(ingresses)
    assert len(ingresses) == 2  # one listens, one stands by
    assert client.completions.create(model="auto", prompt="x", max_tokens=1).choices


def slow_on_paper() -> Plan:
    """The same engine with a profile far slower than it is.

    So a second is asked for by a load that two cores bear, whatever else they do.
    """
    made = real_plan()
    law = builders.step_time(base_s=0.6, per_sequence_s=0.1)
    profile = made.groups[0].profile.model_copy(update={"step_time": law})
    groups = (made.groups[0].model_copy(update={"profile": profile}),)
    routes = (route({"smol": 1.0}, inputs=(0, 100), outputs=(0, 40), rate_rps=0.2),)
    slo = Slo(ttft_s=60.0, tpot_s=4.0, attainment=0.95)
    return made.model_copy(update={"groups": groups, "routes": routes, "slo": slo})


def test_engines_come_and_go_under_load_and_no_request_fails_nor_stream_ends_early(
    pool: Status, root: Path, tmp_path: Path
) -> None:
    """One, two as the load asks for it, and one again as it may not have more."""
    port = int(pool.url.split(":")[2].removesuffix("/v1"))
    made, first, ingresses = slow_on_paper(), engine_url(root), ingress_of(pool)
    deploy_local(made, port=port, wait_s=120, root=root)
    here, load = Pool("e2e", root), Load(pool.url, tokens=16)

    def scaler(most: int) -> Autoscaler:
        options = ("--interval", "1", "--min", "smol=1", "--max", f"smol={most}")
        return Autoscaler(made, root, tmp_path, *options)

    async def course() -> None:
        async with load.running():
            load.rate_rps = 0.6
            load.ask(tokens=1000)
            with scaler(2):
                await here.until(lambda s: s.groups[0].ready == 2, WAIT_S)
            assert get(f"{first}/health") == ""
            for _ in range(6):
                load.ask(tokens=120)
            with scaler(1):
                await here.until(lambda s: s.groups[0].wanted == 1, 60)
                await here.until(lambda s: (s.groups[0].ready, s.groups[0].draining) == (1, 0), 600)

    asyncio.run(course())
    assert set(load.outcomes) == {"200"}, set(load.refusals)
    assert set(ingress_of(pool)) == set(ingresses)


def test_a_stream_whose_engine_is_killed_ends_in_an_error(client: Any, pool: Status) -> None:
    import openai

    stream = client.completions.create(
        model=MODEL, prompt="Once", max_tokens=1900, stream=True, extra_body={"ignore_eos": True}
    )
    chunks = iter(stream)
    next(chunks)
    for pid in descendants(pool.pid):
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        if b"vllm.entrypoints" in command and b"guard.py" not in command:
            import os
            import signal

            os.kill(pid, signal.SIGKILL)
    with pytest.raises(openai.APIError, match="incomplete"):
        list(chunks)


def test_delete_leaves_no_process(pool: Status, root: Path) -> None:
    pids = descendants(pool.pid)
    assert len(pids) > 5
    assert delete_local("e2e", root=root)
    none_left(pids)
    assert not (root / "e2e").exists()
