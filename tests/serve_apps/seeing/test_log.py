"""One line of JSON per request, within a rate, and nothing in it that is a secret."""

import io
import json
import logging

import pytest

from serve_apps.seeing.log import LOGGER, RequestLog, redacted, write_lines_to
from serve_apps.seeing.record import Outcome, Refusal
from serve_apps.seeing.settings import SeeingSettings
from tests.seeing_builders import ARRIVED_S, record, refused


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, logger=LOGGER)
    return lambda: [json.loads(r.getMessage()) for r in caplog.records if r.name == LOGGER]


def log(**settings):
    return RequestLog(SeeingSettings(**settings), draw=lambda: 0.5)


def test_a_line_says_who_where_to_and_how_long(lines):
    log().write(record(candidates=()))
    (line,) = lines()
    assert line["request_id"] == "req_1"
    assert line["at"] == "2023-11-14T22:13:20.000+00:00"
    assert (line["tenant"], line["group"], line["status"]) == ("team-a", "a", 200)
    assert line["ttft_s"] == 0.4
    assert "refusal" not in line


def test_a_refusal_says_why(lines):
    log().write(refused(refusal=Refusal.DEADLINE))
    assert lines()[0]["refusal"] == "deadline"


def test_lines_go_where_they_are_sent_and_nowhere_twice():
    logger = logging.getLogger(LOGGER)
    before = logger.handlers[:], logger.level, logger.propagate
    first, second = io.StringIO(), io.StringIO()
    try:
        for stream in (first, second):
            write_lines_to(stream)
        log().write(record())
    finally:
        logger.handlers[:], logger.level, logger.propagate = before
    assert first.getvalue() == ""
    assert json.loads(second.getvalue())["request_id"] == "req_1"


def test_what_went_well_is_sampled_what_went_wrong_is_not(lines):
    sampled = log(log_share=0.4)  # the draw is 0.5
    sampled.write(record())
    sampled.write(record(outcome=Outcome.CUT))
    assert [line["outcome"] for line in lines()] == ["cut"]


def test_above_the_rate_lines_are_left_out_and_counted(lines):
    dropped = []
    limited = RequestLog(SeeingSettings(log_per_s=2), lambda: dropped.append(1))
    for i in range(5):
        limited.write(record(f"r{i}"))
    limited.write(record("later", finished_s=ARRIVED_S + 1.5))
    assert [line["request_id"] for line in lines()] == ["r0", "r1", "later"]
    assert lines()[-1]["left_out_before"] == len(dropped) == 3


def test_no_lines_are_wanted(lines):
    log(log_per_s=0).write(record())
    assert lines() == []


def test_infinite_figures_are_valid_json(lines):
    log().write(record(predicted_cost_usd=float("inf")))
    assert lines()[0]["predicted_cost_usd"] is None


@pytest.mark.parametrize(
    "secret",
    [
        "sk-abcdefghijklmnop",
        "Bearer abc.def",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIx.c2ln",
        "hf_AbCdEfGhIjKl",
        "xoxb-123456-abcdef",
    ],
)
def test_what_looks_like_a_credential_is_not_written(lines, secret):
    log().write(record(model_asked=f"gpt {secret}"))
    (line,) = lines()
    assert secret not in json.dumps(line)
    assert line["model_asked"] == "gpt [redacted]"


def test_names_of_models_are_left_alone():
    for name in ("llama-3.1-8b", "Qwen/Qwen3-0.6B", "auto:quality=0.9", "smollm2-135m-instruct"):
        assert redacted(name) == name


def test_one_request_is_one_line_whatever_it_asks_for(lines, caplog):
    log().write(record(model_asked='m\n{"event": "forged"}\x1b[2J'))
    assert "\n" not in caplog.records[0].getMessage()
    assert "\x1b" not in caplog.records[0].getMessage()
    assert len(lines()) == 1
