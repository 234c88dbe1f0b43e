"""The load client times each token, never raises for what a server does, and never waits."""

from __future__ import annotations

import asyncio
import socket
from types import SimpleNamespace

import numpy as np
import pytest

from profiler.client import (
    open_session,
    random_text,
    random_token_ids,
    replay,
    stream_completion,
)
from profiler.errors import ClusterError
from profiler.timing import Outcome, RequestTiming, raise_for
from tests.fake_engine import FakeEngine

TOKEN_IDS = [1234] * 7
CHAT = [{"role": "user", "content": "hello"}]


async def ask(engine: FakeEngine, prompt=TOKEN_IDS, max_tokens=6, **options) -> RequestTiming:
    async with engine.serve() as url, open_session(timeout_s=20) as session:
        return await stream_completion(session, url, "fake-model", prompt, max_tokens, **options)


def trace(n: int, *, spacing_s: float = 0.0, tokens: int = 5) -> SimpleNamespace:
    return SimpleNamespace(
        arrival_s=np.arange(n) * spacing_s,
        input_tokens=np.arange(1, n + 1),
        output_tokens=np.full(n, tokens),
    )


async def test_a_whole_answer_is_timed_token_by_token():
    timing = await ask(FakeEngine())
    assert (timing.outcome, timing.output_tokens, timing.input_tokens) == (Outcome.OK, 6, 7)
    assert timing.counted_by == "usage"
    assert [count for _, count in timing.tokens] == [1, 2, 3, 4, 5, 6]
    times = [at for at, _ in timing.tokens]
    assert timing.sent_s <= times[0] and times == sorted(times)
    assert timing.text == " word" * 6


async def test_chat_goes_to_the_chat_endpoint_and_a_role_alone_is_no_token():
    engine = FakeEngine()
    timing = await ask(engine, prompt=CHAT)
    assert engine.seen[0]["messages"] == CHAT
    assert [count for _, count in timing.tokens] == [1, 2, 3, 4, 5, 6]


async def test_exact_length_asks_for_it_and_counts_several_tokens_in_a_chunk():
    engine = FakeEngine(tokens_per_chunk=4)
    timing = await ask(engine, max_tokens=10, exact_length=True)
    assert (engine.seen[0]["ignore_eos"], engine.seen[0]["min_tokens"]) == (True, 10)
    assert [count for _, count in timing.tokens] == [4, 8, 10]
    assert timing.output_tokens == 10


async def test_usage_at_the_end_corrects_the_count_of_chunks():
    timing = await ask(FakeEngine(tokens_per_chunk=4), max_tokens=10)
    assert (timing.output_tokens, timing.counted_by) == (10, "usage")


async def test_without_usage_chunks_are_counted_and_it_says_so():
    timing = await ask(FakeEngine(usage=False))
    assert timing.outcome is Outcome.OK
    assert (timing.output_tokens, timing.counted_by, timing.input_tokens) == (6, "chunks", None)


@pytest.mark.parametrize("size", [1, 2, 7, 50])
async def test_events_cut_at_any_byte_read_the_same(size: int):
    timing = await ask(FakeEngine(fragment_bytes=size))
    assert (timing.outcome, timing.output_tokens) == (Outcome.OK, 6)


@pytest.mark.parametrize(
    ("engine", "outcome", "tokens", "words"),
    [
        (FakeEngine(fault="status", status=429), Outcome.OVERLOADED, 0, "fake trouble 429"),
        (FakeEngine(fault="status", status=404), Outcome.REFUSED, 0, "fake trouble 404"),
        (FakeEngine(fault="status", status=500), Outcome.SERVER_ERROR, 0, "fake trouble 500"),
        (FakeEngine(fault="die"), Outcome.DIED, 3, "connection lost"),
        (FakeEngine(fault="cut"), Outcome.DIED, 3, "stopped after 3 tokens"),
        (FakeEngine(fault="empty"), Outcome.EMPTY, 0, "without a token"),
        (FakeEngine(fault="error_event"), Outcome.SERVER_ERROR, 3, "engine core died"),
        (FakeEngine(fault="garbage"), Outcome.MALFORMED, 3, "bad gateway"),
        (FakeEngine(fault="few_in_usage"), Outcome.CONTRADICTORY, 6, "1 output tokens, but 6"),
        (FakeEngine(fault="wrong_input"), Outcome.CONTRADICTORY, 6, "8 input tokens, but 7"),
    ],
    ids=lambda value: value.fault if isinstance(value, FakeEngine) else "",
)
async def test_each_fault_has_its_own_outcome(engine, outcome, tokens, words):
    timing = await ask(engine)
    assert timing.outcome is outcome
    assert len(timing.tokens) == tokens
    assert words in timing.error


async def test_nobody_listening_is_unreachable():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        async with open_session() as session:
            timing = await stream_completion(session, url, "m", "hello", 4)
    assert timing.outcome is Outcome.UNREACHABLE
    assert timing.status is None
    with pytest.raises(ClusterError, match=f"{url}: unreachable.*check that the engine runs"):
        raise_for(timing, url)


async def test_an_engine_that_never_answers_times_out():
    async with FakeEngine(wait_for=2).serve() as url, open_session(timeout_s=0.2) as session:
        timing = await stream_completion(session, url, "fake-model", "hello", 4)
    assert timing.outcome is Outcome.TIMEOUT


async def test_replay_never_waits_for_earlier_requests():
    engine = FakeEngine(wait_for=120)  # answers nobody until all have arrived
    async with engine.serve() as url:
        timings = await replay(
            url, "fake-model", trace(120), rng=np.random.default_rng(0), timeout_s=30
        )
    assert {t.outcome for t in timings} == {Outcome.OK}


async def test_replay_sends_at_arrival_times_and_keeps_the_order_of_the_trace():
    waits: list[float] = []
    progress: list[tuple[int, int]] = []

    async def note(seconds: float) -> None:
        waits.append(seconds)
        await asyncio.sleep(0)

    engine = FakeEngine()
    async with engine.serve() as url:
        timings = await replay(
            url,
            "fake-model",
            trace(4, spacing_s=100.0),
            rng=np.random.default_rng(0),
            clock=lambda: 0.0,
            sleep=note,
            on_progress=lambda timing, done, total: progress.append((done, total)),
        )
    assert waits == [0.0, 100.0, 200.0, 300.0]
    assert [t.due_s for t in timings] == waits
    assert [t.input_tokens for t in timings] == [1, 2, 3, 4]
    assert progress == [(1, 4), (2, 4), (3, 4), (4, 4)]


async def test_replay_reports_failures_beside_successes():
    async with FakeEngine(fault="status", status=429).serve() as url:
        timings = await replay(url, "fake-model", trace(3), rng=np.random.default_rng(0))
    assert [t.outcome for t in timings] == [Outcome.OVERLOADED] * 3
    assert not any(t.meets(ttft_s=1e9, tpot_s=1e9) for t in timings)


async def test_replay_can_chat():
    engine = FakeEngine()
    async with engine.serve() as url:
        await replay(url, "fake-model", trace(2), rng=np.random.default_rng(0), kind="chat")
    assert all("messages" in body for body in engine.seen)


def test_random_prompts_have_the_length_asked_and_differ():
    rng = np.random.default_rng(0)
    first, second = random_token_ids(rng, 500), random_token_ids(rng, 500)
    assert len(first) == len(second) == 500
    assert first[:16] != second[:16]
    assert min(first) >= 1000 and max(first) < 30_000
    assert len(random_text(rng, 12).split()) == 12
