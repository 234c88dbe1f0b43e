"""Engines, clients and routers that fail, and loads that are too much, cost others nothing.

Live: emulated engines and the ingress as processes of their own, without Ray. How long things
take is for `benchmarks.faults` to say; here it is what happens.
"""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

NEEDS = ("aiohttp", "httptools", "uvloop", "starlette")
MISSING = [name for name in NEEDS if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]
if not MISSING:
    from benchmarks import fault_cases as faults
    from benchmarks import load_cases as loads
    from benchmarks.faults import LEAVING
    from benchmarks.stand import Pool, Stand
    from serve_apps.pool import IngressSettings

    EVEN = Pool(per_sequence_s=1e-3)
    """So much a sequence that streams spread over both, whatever pace of theirs was learnt."""

LATE = 20
"""Times as long as it may take on a quiet machine: this one may be anything but quiet."""


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    with Stand(pools=(EVEN,)) as found:
        yield found


def test_an_engine_killed_under_load_fails_no_request(stand: Stand) -> None:
    found = asyncio.run(faults.kill_an_engine(stand, 3.0))
    assert found["requests"] > 60
    assert found["failed"] == 0


def test_streams_of_a_killed_engine_end_with_an_error_and_others_go_on(stand: Stand) -> None:
    found = asyncio.run(faults.streams_of_a_killed_engine(stand))
    assert 0 < found["struck"] < found["streams"]
    assert found["ended_with_an_error_event"] == found["struck"]
    assert found["complete"] == found["streams"] - found["struck"]
    assert found["told_it_was_complete"] == 0


@pytest.mark.parametrize("stream", [True, False], ids=["a stream", "a plain request"])
def test_a_client_that_leaves_frees_the_engine(stand: Stand, stream: bool) -> None:
    """What it asked for would take 40 s."""
    found = asyncio.run(faults.client_leaves(stand, stream=stream, times=2))
    assert found["longest_s"] < 0.2 * LATE


def test_an_engine_that_hangs_lets_nobody_wait_for_it(stand: Stand) -> None:
    found = asyncio.run(faults.hanging_engine(stand, timeout_s=20.0))
    assert found["timed_out"] <= 1
    assert found["failed"] <= 1


def test_a_host_that_stalls_costs_no_request_and_ejects_no_engine(stand: Stand) -> None:
    found = asyncio.run(faults.stalled(stand, 2.0, engines=True))
    assert found["requests"] > 100
    assert found["failed"] == found["ejected"] == 0


def test_bad_input_ejects_no_engine(stand: Stand) -> None:
    found = asyncio.run(faults.bad_input(stand))
    assert found["answered_400"] == found["bad"]
    assert found["failed"] == found["ejected"] == 0


def test_without_engines_refusals_come_at_once_and_the_service_comes_back(stand: Stand) -> None:
    found = asyncio.run(faults.no_engine_left(stand))
    assert found["answered_503"] == found["requests"]
    assert found["back_in_rotation_s"] < 1.0 * LATE


def test_engines_that_all_answer_503_are_not_asked_ever_more(stand: Stand) -> None:
    found = asyncio.run(faults.all_answer_503(stand))
    assert found["answered_503"] == found["requests"]
    assert found["attempts_per_request"] <= 1.2
    assert found["back_in_rotation_s"] < 1.0 * LATE


@pytest.mark.parametrize("status", [500, 503])
def test_an_engine_that_fails_fast_draws_no_load(stand: Stand, status: int) -> None:
    found = asyncio.run(faults.fails_fast(stand, status))
    assert found["tries_share"] <= 0.1
    assert found["failed"] <= found["tries_on_it"]  # retries have a budget


def test_a_thousand_clients_that_leave_anywhere_leave_nothing_behind() -> None:
    """`clients_leave` waits until nothing is in flight, here and in the engines, or fails."""
    with Stand(pools=(LEAVING,)) as stand:
        found = asyncio.run(faults.clients_leave(stand, 1000))
    assert found["left"] > 500
    assert found["queued_at_most"] > 0
    assert found["in_flight"] == 0
    assert found["tasks_more"] <= 1


def test_told_to_end_it_finishes_what_it_has() -> None:
    with Stand() as stand:
        found = asyncio.run(faults.told_to_end(stand))
    assert found["complete"] == found["streams"] == 10
    assert found["exit_code"] == 0
    assert not found["taken_afterwards"]


def test_a_learned_router_in_trouble_loses_no_request(tmp_path: Path) -> None:
    plan, artefact = loads.learned_plan(tmp_path)
    with Stand(plan=plan, artefact=artefact) as stand:
        for harm in loads.HARMS:
            found = asyncio.run(loads.router_in_trouble(stand, harm, 20))
            assert found["failed"] == 0, harm
            assert found["fell_back"] == found["requests"], harm
            assert found["added_most_s"] < 0.1 * LATE, harm  # it hangs for 5 s


def test_overload_costs_no_goodput_and_refusals_say_when_to_come_back() -> None:
    with loads.slow_stand() as stand:
        found = asyncio.run(loads.overload(stand, 5.0, 5.0))
    assert found["goodput_share"] >= 0.8  # 0.95 on a quiet machine
    assert found["refused"] > found["requests"] / 2
    assert found["refused_otherwise"] == 0


def test_a_loud_tenant_takes_nothing_from_a_quiet_one(tmp_path: Path) -> None:
    guard, keys = loads.keys_of(tmp_path, ("loud", "quiet"))
    with loads.slow_stand(IngressSettings(port=0, guard=guard)) as stand:
        found = asyncio.run(loads.unequal_tenants(stand, keys, 8.0))
    assert found["jain"] >= 0.9  # 0.95 on a quiet machine
