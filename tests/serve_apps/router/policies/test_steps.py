"""Chains are written step by step by models behind completion endpoints, or simulated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import aiohttp
import numpy as np
import pytest

from profiler.errors import EngineError
from serve_apps.router.outcomes import Outcomes
from serve_apps.router.policies.steps import LARGE, SMALL, EngineSteps, SimulatedSteps
from serve_apps.router.policies.stepwise import WIDTH, Stepwise, run_chain
from serve_apps.router.prompts import Prompt
from serve_apps.step_client import CompletionClient
from tests.fake_engine import FakeEngine


def completion(text: str, **ending: Any) -> Mapping[str, Any]:
    return {
        "choices": [{"text": text, "logprobs": {"token_logprobs": [-0.5, None, -1.5]}, **ending}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10},
    }


class Canned:
    """Answers in turn, and keeps what was asked."""

    def __init__(self, *answers: Mapping[str, Any]) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[str, Mapping[str, Any]]] = []

    async def __call__(self, url: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        self.asked.append((url, body))
        return self._answers.pop(0)


def chains(post: Any, **changes: Any) -> EngineSteps:
    settings: dict[str, Any] = {
        "models": ("s", "l"),
        "urls": ("http://s", "http://l"),
        "usd_per_token": ((1.0, 2.0), (10.0, 20.0)),
        "prompts": ["Q?"],
        "estimates": [(0.4, 0.8)],
        "post": post,
        "grade": lambda prompt, chain: float(chain.endswith("#### 4")),
    }
    return EngineSteps(**(settings | changes))


async def test_each_step_continues_what_all_wrote_before() -> None:
    post = Canned(
        completion("one", finish_reason="stop", stop_reason="\n\n"), completion("two #### 4")
    )
    env = chains(post)
    await env.start()
    first = await env.step(SMALL)
    second = await env.step(LARGE)
    assert (first.done, second.done, second.score) == (False, True, 1.0)
    assert post.asked[1][0] == "http://l"
    assert post.asked[1][1]["prompt"] == "Q?one\n\n"
    assert second.answer.text == "one\n\ntwo #### 4"
    assert first.answer.signals["lp"] == -1.0


async def test_a_model_pays_only_for_tokens_it_has_not_cached() -> None:
    env = chains(Canned(*[completion("x", finish_reason="stop", stop_reason="\n\n")] * 3))
    await env.start()
    first, again, other = [await env.step(m) for m in (SMALL, SMALL, LARGE)]
    assert first.cost == 100 * 1 + 10 * 2
    assert again.cost == 10 * 2
    assert other.cost == 100 * 10 + 10 * 20


async def test_a_model_that_ends_by_itself_ends_the_chain() -> None:
    env = chains(Canned(completion("done", finish_reason="stop", stop_reason=None)))
    await env.start()
    step = await env.step(SMALL)
    assert (step.done, step.score) == (True, 0.0)


async def test_something_else_than_a_completion_is_named() -> None:
    env = chains(Canned({"oops": 1}))
    await env.start()
    with pytest.raises(ValueError, match="oops"):
        await env.step(SMALL)


async def test_a_chain_runs_on_a_real_server_s_stream() -> None:
    engine = FakeEngine()
    async with engine.serve() as url, aiohttp.ClientSession() as session:
        env = chains(
            CompletionClient(session),
            urls=(url, url),
            step_tokens=3,
            most_steps=2,
            grade=lambda prompt, chain: float(chain.count("word") == 6),
        )
        chain = await run_chain(env, Stepwise("s", "l", np.zeros(WIDTH), threshold=1.0))
    assert chain.score == 1.0
    assert [body["model"] for body in engine.seen] == ["s", "s"]
    assert engine.seen[1]["prompt"] == "Q? word word word\n\n"


@pytest.mark.parametrize("fault", ["status", "cut", "die", "garbage"])
async def test_a_server_s_fault_is_told_and_not_scored(fault: Any) -> None:
    engine = FakeEngine(fault=fault)
    async with engine.serve() as url, aiohttp.ClientSession() as session:
        env = chains(CompletionClient(session), urls=(url, url), step_tokens=5)
        await env.start()
        with pytest.raises(EngineError, match=r"127\.0\.0\.1"):
            await env.step(SMALL)


async def test_simulated_chains_are_as_good_as_the_model_that_writes_them() -> None:
    count = 200
    outcomes = Outcomes(
        prompts=tuple(Prompt(str(i)) for i in range(count)),
        dataset=("d",) * count,
        subject=("d",) * count,
        models=("s", "l"),
        score=np.tile([0.4, 0.9], (count, 1)),
        output_tokens=np.ones((count, 2)),
        input_tokens=np.ones((count, 2)),
        usd=np.ones((count, 2)),
    )
    env = SimulatedSteps(outcomes, outcomes.score, (8.0, 80.0), np.random.default_rng(0), steps=4)
    weights = np.zeros(WIDTH)
    for threshold, expected, cost in ((1.0, 0.4, 8.0), (-1.0, 0.9, 80.0)):
        policy = Stepwise("s", "l", weights, threshold=threshold)
        runs = [await run_chain(env, policy) for _ in range(count)]
        assert np.mean([r.score for r in runs]) == pytest.approx(expected, abs=0.07)
        assert np.mean([r.cost for r in runs]) == pytest.approx(cost)
