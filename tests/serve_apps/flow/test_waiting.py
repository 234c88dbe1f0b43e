"""Waiting in asyncio: an answer, a refusal, or no trace at all."""

from __future__ import annotations

import asyncio

import pytest

from serve_apps.flow.nouns import Anyone, Lease, Refused, Result
from serve_apps.router.base import RouteRequest
from tests.serve_apps.flow import flows
from tests.serve_apps.flow.flows import Flow

ASKED = RouteRequest("auto", 100)


def full() -> tuple[Flow, list[Lease]]:
    flow = Flow(flows.plan(flows.group(replicas=1, max_num_seqs=2)))
    return flow, flow.fill()


async def waiting(flow: Flow, deadline_s: float = 100.0) -> asyncio.Task[Lease]:
    task = asyncio.create_task(flow.dispatcher.dispatch(ASKED, Anyone(), deadline_s))
    await asyncio.sleep(0)
    assert flow.dispatcher.queued == 1
    return task


async def test_a_slot_that_comes_free_goes_to_who_waits() -> None:
    flow, leases = full()
    task = await waiting(flow)
    flow.now += 0.5
    leases[0].done(Result.OK, 20)
    lease = await task
    assert lease.waited_s == 0.5
    assert flow.dispatcher.in_flight == 2


async def test_who_is_cancelled_while_waiting_leaves_no_trace() -> None:
    flow, _ = full()
    task = await waiting(flow)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert flow.dispatcher.queued == 0


async def test_who_is_cancelled_at_the_moment_of_the_answer_gives_the_slot_back() -> None:
    flow, leases = full()
    task = await waiting(flow)
    leases[0].done(Result.OK, 20)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert flow.dispatcher.in_flight == 1


async def test_who_waited_too_long_is_refused_by_the_heartbeat() -> None:
    flow, _ = full()
    task = await waiting(flow, deadline_s=5.0)
    flow.now += 5.1
    with pytest.raises(Refused) as told:
        await task
    assert told.value.kind == "deadline"


async def test_draining_refuses_what_is_new_and_ends_with_what_is_in_flight() -> None:
    flow, leases = full()
    task = await waiting(flow)
    flow.dispatcher.drain()
    with pytest.raises(Refused) as told:
        await flow.dispatcher.dispatch(ASKED, Anyone())
    assert told.value.kind == "unavailable"
    drained = asyncio.create_task(flow.dispatcher.drained())
    for lease in leases:
        lease.done(Result.OK, 20)
    last = await task
    await asyncio.sleep(0)
    assert not drained.done()
    last.done(Result.OK, 20)
    await drained
