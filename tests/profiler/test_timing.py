"""Tokens get their times from the event stream, however its bytes are cut; failures say why."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.errors import ClusterError, EngineError
from profiler.timing import Outcome, RequestTiming, raise_for, sse_events


@pytest.mark.parametrize(
    ("outcome", "error"),
    [
        (Outcome.OVERLOADED, ClusterError),
        (Outcome.REFUSED, ClusterError),
        (Outcome.DIED, EngineError),
        (Outcome.EMPTY, EngineError),
        (Outcome.SERVER_ERROR, EngineError),
    ],
)
def test_a_failure_becomes_an_error_that_names_the_url(outcome, error):
    with pytest.raises(error, match=r"http://x: .*; .+") as raised:
        raise_for(RequestTiming(0.0, outcome, "why"), "http://x")
    assert type(raised.value) is error


def test_lateness_of_the_client_counts_into_ttft():
    timing = RequestTiming(5.0, Outcome.OK, tokens=((7.0, 1), (9.0, 5)), output_tokens=5, due_s=4.0)
    assert (timing.ttft_s, timing.tpot_s) == (3.0, 0.5)
    assert timing.meets(ttft_s=3.0, tpot_s=0.5)
    assert not timing.meets(ttft_s=2.9, tpot_s=0.5)
    assert not timing.meets(ttft_s=3.0, tpot_s=0.4)


@settings(deadline=None, max_examples=50)
@given(
    data=st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=20), max_size=6
    ),
    newline=st.sampled_from([b"\n", b"\r\n"]),
    cuts=st.lists(st.integers(1, 9), min_size=1, max_size=5),
)
async def test_sse_survives_any_cut_of_the_bytes(data: list[str], newline: bytes, cuts: list[int]):
    body = b"".join(b"data: " + text.encode() + newline * 2 for text in data)

    async def pieces() -> AsyncIterator[bytes]:
        at = i = 0
        while at < len(body):
            yield body[at : at + cuts[i % len(cuts)]]
            at += cuts[i % len(cuts)]
            i += 1

    assert [event async for event in sse_events(pieces())] == data


async def test_sse_skips_comments_and_joins_lines():
    async def pieces() -> AsyncIterator[bytes]:
        yield b": ping\n\nevent: x\ndata: a\ndata:b\n\ndata: cut off"

    assert [event async for event in sse_events(pieces())] == ["a\nb"]
