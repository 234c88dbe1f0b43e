"""One question to one model: retried, adapted to the server, and never an exception."""

from __future__ import annotations

import math

import pytest

from profiler.answers import ATTEMPTS, LONGEST_PAUSE_S, Answer, ChatClient, read_answer
from profiler.client import open_session
from tests.fake_openai import FakeOpenAI

ASK = [{"role": "user", "content": "2 + 2?"}]


class Asked:
    """What came of some requests to a fake server."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.pauses: list[float] = []
        self.notes: list[str] = []


async def ask(server: FakeOpenAI, times: int = 1) -> Asked:
    asked = Asked()

    async def sleep(seconds: float) -> None:
        asked.pauses.append(seconds)

    async with server.serve() as url, open_session(timeout_s=20) as session:
        client = ChatClient(session, url, "small", sleep=sleep)
        asked.answers = [await client.ask(ASK, 16) for _ in range(times)]
        asked.notes = client.notes
    return asked


async def test_an_answer_brings_text_tokens_latency_and_probabilities():
    server = FakeOpenAI(logprobs=(math.log(0.9), math.log(0.6)))
    (answer,) = (await ask(server)).answers
    assert (answer.text, answer.input_tokens, answer.output_tokens) == ("4", 10, 2)
    assert answer.latency_s is not None and answer.latency_s > 0
    assert answer.logprobs == pytest.approx((math.log(0.9), math.log(0.6)))
    assert answer.margins == pytest.approx((0.8, 0.2))
    assert server.seen[0]["temperature"] == 0.0 and server.seen[0]["max_tokens"] == 16


@pytest.mark.parametrize("fault", [429, 500, 503, "die"])
async def test_a_passing_fault_is_tried_again_after_growing_pauses(fault):
    asked = await ask(FakeOpenAI(faults=[fault] * 3))
    assert asked.answers[0].text == "4"
    assert len(asked.pauses) == 3
    assert asked.pauses == sorted(asked.pauses)


async def test_a_lasting_fault_ends_after_some_attempts():
    server = FakeOpenAI(status=500)
    (answer,) = (await ask(server)).answers
    assert (answer.text, answer.model_fault, len(server.seen)) == (None, True, ATTEMPTS)
    assert answer.error == "HTTP 500: fake trouble"


async def test_retry_after_is_obeyed_within_reason():
    asked = await ask(FakeOpenAI(faults=[429], retry_after="7"))
    assert asked.pauses == [7.0]
    asked = await ask(FakeOpenAI(faults=[429], retry_after="86400"))
    assert asked.pauses == [LONGEST_PAUSE_S]


@pytest.mark.parametrize("message", ["logprobs are not supported", "bad request"])
async def test_refused_probabilities_are_left_out_and_noted(message):
    server = FakeOpenAI(refuse={"logprobs": message})
    asked = await ask(server, times=2)
    assert [a.text for a in asked.answers] == ["4", "4"]
    assert asked.notes == ["refuses token probabilities"]
    assert len(server.seen) == 3  # learnt once


async def test_probabilities_silently_absent_are_noted():
    asked = await ask(FakeOpenAI(logprobs=None), times=2)
    assert asked.notes == ["gives no token probabilities, though it does not refuse them"]


async def test_a_server_with_the_new_name_of_the_limit_and_no_temperature():
    refuse = {
        "max_tokens": "Unsupported parameter: 'max_tokens'; use 'max_completion_tokens' instead.",
        "temperature": "Unsupported value: 'temperature' is fixed at 1.",
    }
    server = FakeOpenAI(refuse=refuse)
    asked = await ask(server)
    assert asked.answers[0].text == "4"
    assert server.seen[-1]["max_completion_tokens"] == 16
    assert asked.notes == ["refuses a temperature: its own default is used"]


async def test_a_refusal_for_another_reason_is_no_reason_to_stop_asking_for_probabilities():
    server = FakeOpenAI(faults=[400, 400])
    asked = await ask(server, times=2)
    assert asked.answers[0].error == "HTTP 400: fake trouble"
    assert not asked.answers[0].model_fault
    assert asked.answers[1].logprobs
    assert asked.notes == [] and asked.pauses == []


@pytest.mark.parametrize("body", [{}, [], {"choices": []}, {"choices": [{"message": None}]}, "x"])
async def test_a_200_of_another_shape_is_the_servers_fault(body):
    (answer,) = (await ask(FakeOpenAI(body=body))).answers
    assert answer.text is None and answer.model_fault
    assert "not a chat completion" in answer.error


def test_figures_no_one_can_use_are_tamed():
    token = '{"logprob": -9999.0, "top_logprobs": [{"logprob": -0.1}]}'
    answer = read_answer(
        '{"choices": [{"message": {"content": "\\ud800"}, "finish_reason": "length", '
        f'"logprobs": {{"content": [{token}]}}}}]}}'
    )
    assert answer.text == "?" and answer.cut
    assert answer.logprobs == (-100.0,) and math.isnan(answer.margins[0])
    assert answer.output_tokens == 1
