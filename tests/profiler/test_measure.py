"""A measurement probes inside the engine's limits, says what it skipped, and fits a profile."""

from __future__ import annotations

import datetime as dt
import itertools
import socket

import numpy as np
import pytest

from profiler.core import EngineOptions, ReplicaConfig
from profiler.errors import ClusterError, EngineError, InputError, UnknownNameError
from profiler.measure import Measurement, Progress, measure, measure_engine
from tests.fake_engine import FakeEngine


def config(max_num_seqs: int = 4, max_num_batched_tokens: int = 2048) -> ReplicaConfig:
    engine = EngineOptions(max_num_seqs=max_num_seqs, max_num_batched_tokens=max_num_batched_tokens)
    return ReplicaConfig(model="fake-model", gpu="cpu", engine=engine)


async def run(engine: FakeEngine, *, budget_s: float = 60.0, **options) -> Measurement:
    async with engine.serve() as url:
        return await measure(
            url, config(), budget_s=budget_s, rng=np.random.default_rng(0), **options
        )


async def test_a_measurement_becomes_a_profile_with_its_provenance():
    seen: list[Progress] = []
    today = dt.date(2026, 1, 2)
    engine = FakeEngine()
    found = await run(
        engine, today=today, hardware="Imaginary CPU", host="here", on_progress=seen.append
    )
    profile = found.profile
    assert (profile.kv_capacity_tokens, profile.max_model_len) == (182 * 128, 2048)
    made = profile.provenance
    assert (made.kind, made.date, made.host) == ("measured", today, "here")
    assert (made.hardware, made.engine, made.driver) == ("Imaginary CPU", "vllm 9.9.9", None)
    assert made.points == len(found.points) == len(found.residuals())
    assert {p.kind for p in found.points} == {"prefill", "decode"}
    assert {p.sequences for p in found.points if p.kind == "decode"} == {1, 4}
    assert found.held_out and found.held_out_error is not None
    assert all(p.repeats >= 2 for p in found.points)
    assert sum(p.repeats for p in (*found.points, *found.held_out)) == sum(
        len(p.points) for p in seen
    )
    prompts = {tuple(body["prompt"]) for body in engine.seen}
    assert len(prompts) == len(engine.seen), "a prefix cache must never help"


async def test_what_the_budget_leaves_out_is_named():
    ticks = itertools.count(step=1e-3)
    engine = FakeEngine()
    async with engine.serve() as url:
        with pytest.raises(InputError, match="raise the time budget"):
            await measure(url, config(), budget_s=1e-6, clock=lambda: next(ticks))


async def test_limits_come_from_arguments_where_the_server_does_not_tell():
    silent = FakeEngine(kv_blocks=None, max_model_len=None)
    with pytest.raises(InputError, match="max_model_len"):
        await run(silent)
    with pytest.raises(InputError, match="kv_capacity_tokens"):
        await run(silent, max_model_len=1024)
    found = await run(silent, max_model_len=1024, kv_capacity_tokens=9000)
    assert (found.profile.max_model_len, found.profile.kv_capacity_tokens) == (1024, 9000)


@pytest.mark.parametrize(
    ("engine", "error", "words"),
    [
        (FakeEngine(running=3), ClusterError, "busy with 3 requests"),
        (FakeEngine(healthy=False), EngineError, "engine is dead"),
        (FakeEngine(fault="status", status=429), ClusterError, "429.*wait until it is idle"),
        (FakeEngine(fault="status", status=500), EngineError, "500.*engine's log"),
        (FakeEngine(fault="die", after_tokens=10), EngineError, "connection lost"),
        (FakeEngine(fault="empty"), EngineError, "without a token"),
        (FakeEngine(usage=False), EngineError, "by chunks.*ignore_eos and stream usage"),
    ],
    ids=["busy", "dead", "429", "500", "dies", "empty", "no usage"],
)
async def test_trouble_is_an_error_that_names_the_url(engine, error, words):
    with pytest.raises(error, match=rf"http://127\.0\.0\.1:\d+.*{words}") as raised:
        await run(engine)
    assert type(raised.value) is error


async def test_an_unknown_model_names_those_served():
    with pytest.raises(UnknownNameError, match="did you mean 'fake-model'"):
        await run(FakeEngine(), model="fake-modle")


def test_nobody_there_is_a_cluster_error():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(ClusterError, match=f"{url}/v1/models: no answer.*engine runs"):
            measure_engine(url, config())


def test_a_url_that_is_none_says_so():
    with pytest.raises(ClusterError, match="not a URL"):
        measure_engine("nonsense", config())
