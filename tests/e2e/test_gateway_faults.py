"""A pool on real Ray Serve with emulated engines keeps answering while its parts are killed."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import itertools
import json
import os
import random
import signal
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from orchestrator.deploy.base import Status
from orchestrator.deploy.local import delete_local, deploy_local
from placement.plan import Plan
from profiler.engine import free_port
from tests import builders
from tests.plan_builders import group, plan, route
from tests.processes import descendants

NEEDS = ("ray", "httptools")
MISSING = [name for name in NEEDS if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]
NUMBERS = itertools.count()
"""In each prompt, so that no two share a prefix that would keep them on one engine."""
WAIT_S = 60.0
START_S = 240.0
"""For a process to be replaced: five seconds of a core, on a machine that may be crowded."""
RATE_RPS = 40


def fleet(rate_rps: float = 1.0, replicas: int = 2) -> Plan:
    """Engines of one model, 5 ms a token, 10 ms when ten are at it.

    So much that streams spread over both, whatever pace of theirs was learnt before. Latency
    targets are beyond what any machine takes: nobody is to be refused for the speed of this one.
    """
    made = group("small", gpu="L4", replicas=replicas, max_num_seqs=64)
    law = builders.step_time(base_s=0.005, per_prefill_token_s=1e-6, per_sequence_s=5e-4)
    profile = made.profile.model_copy(update={"step_time": law, "kv_capacity_tokens": 200_000})
    groups = (made.model_copy(update={"profile": profile}),)
    routes = (route({"small": 1.0}, rate_rps=rate_rps),)
    slo = builders.slo(ttft_s=WAIT_S, tpot_s=1.0)
    return plan(groups, routes, service="faults").model_copy(update={"slo": slo})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state") / "orchestrator"


@pytest.fixture(scope="module")
def pool(root: Path) -> Iterator[Status]:
    status = deploy_local(fleet(), port=free_port(), wait_s=300, root=root, emulate=True)
    yield status
    delete_local("faults", root=root)


def processes(pool: Status, word: bytes) -> dict[int, list[bytes]]:
    """Those of the pool whose command line has this word in it, and their arguments."""
    found = {}
    for pid in descendants(pool.pid):
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if word in line:
            found[pid] = line.rstrip(b"\0").split(b"\0")
    return found


def engines(pool: Status) -> dict[str, list[int]]:
    """The engines' addresses, and the processes of each: its launcher and itself."""
    found: dict[str, list[int]] = {}
    for pid, args in processes(pool, b"profiler.emulated").items():
        found.setdefault(f"http://127.0.0.1:{int(args[-1])}", []).append(pid)
    return {url: sorted(pids) for url, pids in found.items()}


def kill(pool: Status, url: str) -> None:
    """End an engine as a crash would."""
    for pid in engines(pool)[url]:
        with contextlib.suppress(ProcessLookupError):  # the one ends with the other
            os.kill(pid, signal.SIGKILL)


def listener(pool: Status) -> int:
    """The ingress process that listens on the pool's port; another stands by."""
    port = int(pool.url.split(":")[2].removesuffix("/v1"))
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    inodes = {f[9] for f in map(str.split, lines) if f[3] == "0A" and int(f[1][-4:], 16) == port}
    sockets = {f"socket:[{inode}]" for inode in inodes}
    for pid in processes(pool, b"ServeReplica:Ingress"):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                if os.readlink(link) in sockets:  # noqa: PTH115 - not a path
                    return pid
            except OSError:
                continue
    raise AssertionError("nobody listens")


def state(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/emulated/state", timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def ready(pool: Status) -> int:
    """How many engines the ingress that listens knows of."""
    with urllib.request.urlopen(pool.url.removesuffix("v1") + "health", timeout=10) as answer:
        return int(json.load(answer)["ready_replicas"]["small"])


async def ask(
    session: aiohttp.ClientSession, pool: Status, *, stream: bool = False, tokens: int = 8
) -> tuple[int, bytes]:
    """Status (0: no connection) and body of one completion."""
    told = [{"role": "user", "content": f"Tell me the tale of wave {next(NUMBERS)}."}]
    body = {"model": "m1", "messages": told, "max_tokens": tokens, "ignore_eos": True}
    try:
        async with session.post(
            f"{pool.url}/chat/completions", json=body | {"stream": stream}
        ) as answer:
            return answer.status, await answer.read()
    except aiohttp.ClientError:
        return 0, b""


def session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=WAIT_S), connector=aiohttp.TCPConnector(limit=0)
    )


async def under_load(pool: Status, what: Any, seconds: float = 4.0) -> list[tuple[float, int]]:
    """Requests at a steady rate, with something done after a third; when each began, its status."""
    async with session() as s:
        began_s, told = time.monotonic(), []

        async def one() -> None:
            at_s = time.monotonic() - began_s
            status, _ = await ask(s, pool)
            told.append((at_s, status))

        tasks = []
        for i in range(int(seconds * RATE_RPS)):
            if i == int(seconds * RATE_RPS / 3):
                what()
            tasks.append(asyncio.create_task(one()))
            await asyncio.sleep(max(0.0, began_s + i / RATE_RPS - time.monotonic()))
        await asyncio.gather(*tasks)
    return told


def statuses(told: list[tuple[float, int]]) -> Counter[int]:
    return Counter(status for _, status in told)


async def until(true: Any) -> None:
    deadline = time.monotonic() + START_S
    while not true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


async def at_strength(pool: Status) -> None:
    """Wait until both engines answer, whatever a test before did to them, and the ingress knows."""

    def answering() -> bool:
        try:
            return len([state(url) for url in engines(pool)]) == ready(pool) == 2
        except OSError:  # one is starting, or the ingress is
            return False

    await until(answering)


async def test_an_engine_killed_under_load_fails_no_request(pool: Status) -> None:
    victim = next(iter(engines(pool)))
    told = await under_load(pool, lambda: kill(pool, victim))
    assert statuses(told) == {200: len(told)}
    await until(lambda: len(engines(pool)) == 2 and victim not in engines(pool))


async def test_the_controller_killed_under_load_fails_no_request(pool: Status) -> None:
    await at_strength(pool)
    [controller] = processes(pool, b"ray::ServeController")
    told = await under_load(pool, lambda: os.kill(controller, signal.SIGKILL))
    assert statuses(told) == {200: len(told)}


async def test_the_ingress_killed_is_stood_in_for(pool: Status) -> None:
    await until(lambda: len(processes(pool, b"ServeReplica:Ingress")) >= 2)
    victim = listener(pool)
    told = await under_load(pool, lambda: os.kill(victim, signal.SIGKILL))
    lost = [at_s for at_s, status in told if status != 200]
    assert statuses(told).keys() <= {200, 0}
    assert not lost or max(lost) - min(lost) < 3.0  # hundredths on a quiet machine, of four
    assert listener(pool) != victim
    await until(lambda: len(processes(pool, b"ServeReplica:Ingress")) >= 2)


async def test_streams_on_a_killed_engine_end_with_an_error_and_others_go_on(pool: Status) -> None:
    await at_strength(pool)
    found, asking = engines(pool), []
    async with session() as s:

        def running() -> list[int]:
            return [state(url)["running"] for url in found]

        # One that failed of late is given its share again bit by bit: ask until both have some.
        while min(running()) < 2:
            assert len(asking) < 200, running()
            asking += [asyncio.create_task(ask(s, pool, stream=True, tokens=800)) for _ in range(4)]
            await asyncio.sleep(0.2)
        await until(lambda: sum(running()) == sum(not task.done() for task in asking))
        victim = next(iter(found))
        hit = state(victim)["in_flight"]
        kill(pool, victim)
        answers = await asyncio.gather(*asking)
    cut = [body for status, body in answers if b'"stream_cut"' in body]
    whole = [body for status, body in answers if body.rstrip().endswith(b"[DONE]")]
    assert {status for status, _ in answers} == {200}
    assert 0 < len(cut) <= hit
    assert len(cut) + len(whole) == len(answers)
    assert whole
    await until(lambda: len(engines(pool)) == 2 and victim not in engines(pool))


async def test_clients_that_leave_at_random_points_leave_nothing_behind(pool: Status) -> None:
    """What they asked for would take 9 s, had each an engine to itself."""
    await at_strength(pool)
    rng = random.Random(0)

    async def leave(s: aiohttp.ClientSession) -> None:
        asking = asyncio.create_task(ask(s, pool, stream=rng.random() < 0.5, tokens=1800))
        await asyncio.sleep(rng.random() * 0.5)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

    async with session() as s:
        for _ in range(10):
            await asyncio.gather(*(leave(s) for _ in range(100)))
    left_s = time.monotonic()
    urls = list(engines(pool))
    await until(lambda: not any(state(url)["in_flight"] for url in urls))
    assert time.monotonic() - left_s < 8.0  # a second on a quiet machine
    async with session() as s:
        assert (await ask(s, pool))[0] == 200


async def test_a_plan_with_another_replica_keeps_the_others_and_their_streams(
    pool: Status, root: Path
) -> None:
    await at_strength(pool)
    port = int(pool.url.split(":")[2].removesuffix("/v1"))
    ingress, before = listener(pool), engines(pool)
    more = fleet(2.0, replicas=3)
    async with session() as s:
        asking = [asyncio.create_task(ask(s, pool, stream=True, tokens=1500)) for _ in range(10)]
        await until(lambda: sum(state(url)["running"] for url in before) == 10)
        await asyncio.to_thread(
            lambda: deploy_local(more, port=port, wait_s=120, root=root, emulate=True)
        )
        answers = await asyncio.gather(*asking)
    assert all(body.rstrip().endswith(b"[DONE]") for _, body in answers)
    assert before.items() < engines(pool).items()
    assert listener(pool) == ingress
