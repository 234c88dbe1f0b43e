"""What goes wrong with engines and clients, done to a `Stand` and counted.

Each case leaves the stand as it found it, and returns its figures: counts that a test can insist
on, and times (``*_s``) that depend on the machine.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

from benchmarks.stand import Engine, Stand
from benchmarks.stand_client import Client, Reply, arrivals, at, in_turn

Figures = dict[str, float]
RATE_RPS = 40.0


def failed(replies: Sequence[Reply]) -> int:
    """Those that were not answered in full."""
    return sum(not r.ok for r in replies)


async def at_rest(client: Client) -> dict[str, object]:
    """The ingress's state once nothing is in flight in it."""
    status, state = await client.get("/stand/state", in_flight=0, queued=0, open=0, busy=0)
    assert status == 200, f"the ingress does not come to rest: {state}"
    return dict(state)


async def engine_state(engine: Engine, **wanted: int) -> dict[str, int]:
    """An engine's counters, once they are so."""
    async with Client(engine.url) as client:
        status, state = await client.get("/emulated/state", **wanted)
    assert status == 200, f"{engine.place.id} does not come to {wanted}: {state}"
    return dict(state)


async def engines_free(stand: Stand) -> None:
    """Wait until no engine holds a request."""
    for engine in stand.engines:
        if engine.server.alive:
            await engine_state(engine, in_flight=0, running=0, waiting=0)


async def back(stand: Stand, client: Client) -> None:
    """Start engines that were killed, and wait until the ingress uses them."""
    for engine in stand.engines:
        if not engine.server.alive:
            engine.start()
    for engine in stand.engines:
        await asyncio.to_thread(engine.server.wait_ready, 60.0)
    await trusted(client)


async def trusted(client: Client) -> None:
    """Ask until every replica takes its full share again."""
    while set((await client.get("/stand/state"))[1]["states"].values()) != {"open"}:
        await in_turn(32, 16, lambda _: client.ask(tokens=2))


async def kill_an_engine(stand: Stand, seconds: float) -> Figures:
    """kill -9 under steady load: plain answers and streams alike, none must fail."""
    victim = stand.engines[0]
    async with Client(stand.url) as client:
        times_s = arrivals(RATE_RPS, seconds)
        middle = len(times_s) * 2 // 5

        async def ask(i: int) -> Reply:
            if i == middle:
                victim.kill()
            return await client.ask()

        replies = await at(times_s, ask)
        state = await at_rest(client)
        await back(stand, client)
    return {
        "requests": len(replies),
        "failed": failed(replies),
        "retried": float(str(state["retried"])),
        "slowest_s": max(r.took_s for r in replies),
    }


async def under_way(client: Client, streams: int, tokens: int = 100) -> list[asyncio.Task[Reply]]:
    """Streams of which each has its first token."""

    def begin() -> tuple[asyncio.Event, asyncio.Task[Reply]]:
        begun = asyncio.Event()

        async def told() -> None:
            begun.set()

        asked = client.ask(stream=True, tokens=tokens, on_token=told)
        return begun, asyncio.ensure_future(asked)

    started = [begin() for _ in range(streams)]
    for begun, _ in started:
        await begun.wait()
    return [task for _, task in started]


async def streams_of_a_killed_engine(stand: Stand, streams: int = 8) -> Figures:
    """Its own end with an error event, those of others go on to their end."""
    victim = stand.engines[0]
    async with Client(stand.url) as client:
        tasks = await under_way(client, streams, 400)  # none ends before the engine does
        struck = (await engine_state(victim))["in_flight"]
        victim.kill()
        replies = await asyncio.gather(*tasks)
        await at_rest(client)
        await back(stand, client)
    return {
        "streams": streams,
        "struck": struck,
        "ended_with_an_error_event": sum(r.code == "stream_cut" and not r.error for r in replies),
        "complete": sum(r.ok for r in replies),
        "unexplained": sum(not r.ok and r.code != "stream_cut" for r in replies),
        "told_it_was_complete": sum(r.complete and bool(r.code) for r in replies),
    }


async def client_leaves(stand: Stand, *, stream: bool, times: int = 5) -> Figures:
    """How long an engine goes on with what nobody wants any more."""
    took_s = []
    async with Client(stand.url) as client:
        for _ in range(times):
            asked = asyncio.ensure_future(client.ask(stream=stream, tokens=4000))
            status, _ = await client.get("/stand/state", in_flight=1)
            assert status == 200
            busy = await _busy_engine(stand)
            asked.cancel()
            left_s = time.perf_counter()
            await engine_state(busy, in_flight=0, running=0, waiting=0)
            took_s.append(time.perf_counter() - left_s)
        await at_rest(client)
    return {"left": times, "longest_s": max(took_s)}


async def _busy_engine(stand: Stand) -> Engine:
    while True:
        for engine in stand.engines:
            if (await engine_state(engine))["running"]:
                return engine


async def hanging_engine(stand: Stand, requests: int = 80, timeout_s: float = 5.0) -> Figures:
    """SIGSTOP: connections are taken, and nothing is ever said."""
    victim = stand.engines[0]
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(stand.url, timeout_s))
        await in_turn(10, 5, lambda _: client.ask())  # connections at rest, as there always are
        victim.freeze()
        try:
            replies = await at([i / RATE_RPS for i in range(requests)], lambda _: client.ask())
        finally:
            victim.thaw()
        thawed_s = time.perf_counter()
        while (await client.get("/stand/state"))[1]["states"][victim.place.id] == "ejected":
            await asyncio.sleep(0.01)
        back_s = time.perf_counter() - thawed_s
        await trusted(client)
        await at_rest(client)
    await engines_free(stand)
    return {
        "requests": requests,
        "timed_out": sum(r.error == "TimeoutError" for r in replies),
        "failed": failed(replies),
        "slowest_s": max(r.took_s for r in replies),
        "back_in_rotation_s": back_s,
    }


async def stalled(stand: Stand, seconds: float, *, engines: bool) -> Figures:
    """SIGSTOP to the ingress under load, and to the engines too: as a host that stalls.

    None of it is an engine's failure, so none is ejected, and no request is lost or refused.
    """
    pids = [stand.gateway_pid, *(e.pid for e in stand.engines if engines)]
    async with Client(stand.url) as client:
        times_s = arrivals(RATE_RPS, 2 * seconds + 1.0)
        first = int(0.5 * RATE_RPS)

        async def ask(i: int) -> Reply:
            if i == first:
                stopping.append(asyncio.create_task(_stop(pids, seconds)))
            return await client.ask(stream=i % 2 == 0)

        stopping: list[asyncio.Task[None]] = []
        replies = await at(times_s, ask)
        await asyncio.gather(*stopping)
        state = await at_rest(client)
        await trusted(client)
    return {
        "requests": len(replies),
        "failed": failed(replies),
        "retried": float(str(state["retried"])),
        "ejected": sum(s != "open" for s in dict(state["states"]).values()),  # type: ignore[call-overload]
    }


async def _stop(pids: Sequence[int], seconds: float) -> None:
    """The ingress comes back first, and finds engines that have said nothing."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    await asyncio.sleep(seconds)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
        await asyncio.sleep(0.02)


async def bad_input(stand: Stand, requests: int = 60) -> Figures:
    """Engines answer 400; whoever asks well is answered all the while."""
    async with Client(stand.url) as client:

        async def too_long(_: int) -> Reply:
            return await client.ask(tokens=1_000_000)

        bad = await in_turn(requests, 4, too_long)
        good = await in_turn(requests, 4, lambda _: client.ask(tokens=4))
        _, state = await client.get("/stand/state")
    return {
        "bad": len(bad),
        "answered_400": sum(r.status == 400 for r in bad),
        "good": len(good),
        "failed": failed(good),
        "ejected": sum(s != "open" for s in state["states"].values()),
    }


async def no_engine_left(stand: Stand, requests: int = 20) -> Figures:
    """All are killed: refusals come at once. One comes back: so does the service."""
    async with Client(stand.url) as client:
        for engine in stand.engines:
            engine.kill()
        await client.ask()  # finds it out
        refused = await in_turn(requests, 2, lambda _: client.ask())
        first = stand.engines[0]
        first.start()
        while not first.server.healthy(0.2):
            await asyncio.sleep(0.005)
        healthy_s = time.perf_counter()
        while not (await client.ask(tokens=1)).ok:
            if time.perf_counter() - healthy_s > 30:
                break
            await asyncio.sleep(0.01)
        back_s = time.perf_counter() - healthy_s
        await back(stand, client)
    return {
        "requests": requests,
        "answered_503": sum(r.status == 503 and "Retry-After" in _title(r) for r in refused),
        "slowest_503_s": max(r.took_s for r in refused),
        "back_in_rotation_s": back_s,
    }


async def told_to_end(stand: Stand, streams: int = 10) -> Figures:
    """SIGTERM under streams: all finish, nothing new is taken, and the process ends well."""
    async with Client(stand.url) as client:
        tasks = await under_way(client, streams)
        stand.told_to_end()
        replies = await asyncio.gather(*tasks)
        code = await asyncio.to_thread(stand.ended)
        late = await client.ask()
    return {
        "streams": streams,
        "complete": sum(r.ok for r in replies),
        "exit_code": code,
        "taken_afterwards": late.ok,
    }


async def clients_leave(stand: Stand, clients: int, seed: int = 0) -> Figures:
    """Clients leave at random points of their requests; nothing of them stays."""
    rng = random.Random(seed)
    async with Client(stand.url) as client:
        before = await at_rest(client)
        queued: list[int] = []

        async def leave(_: int) -> Reply:
            stream, tokens = rng.random() < 0.6, rng.choice((4, 20, 60))
            asked = asyncio.ensure_future(client.ask(stream=stream, tokens=tokens))
            await asyncio.wait([asked], timeout=rng.choice((0.001, 0.05, 0.3, 1.0)) * rng.random())
            if rng.random() < 0.1:
                queued.append((await client.get("/stand/state"))[1]["queued"])
            if asked.done():
                return asked.result()
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
            return Reply(error="left")

        replies = await in_turn(clients, 100, leave)
        left_s = time.perf_counter()
        state = await at_rest(client)
        ours_s = time.perf_counter() - left_s
        await engines_free(stand)
        engines_s = time.perf_counter() - left_s
    return {
        "clients": clients,
        "left": sum(r.error == "left" for r in replies),
        "queued_at_most": max(queued),
        "answered": sum(r.ok for r in replies),
        "in_flight": float(str(state["in_flight"])),
        "tasks_more": float(str(state["tasks"])) - float(str(before["tasks"])),
        "at_rest_s": ours_s,
        "engines_free_s": engines_s,
    }


async def all_answer_503(stand: Stand, requests: int = 200) -> Figures:
    """Retries must not multiply the load on engines that are in trouble."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(stand.url))
        doors = [await stack.enter_async_context(Client(e.url)) for e in stand.engines]
        before = await _seen(doors)
        for door in doors:
            await door.post("/emulated/fault", {"kind": "error", "status": 503})
        replies = await in_turn(requests, 8, lambda _: client.ask())
        tried = await _seen(doors) - before
        for door in doors:
            await door.delete("/emulated/fault")
        healed_s = time.perf_counter()
        while not (await client.ask(tokens=1)).ok:
            if time.perf_counter() - healed_s > 30:
                break
            await asyncio.sleep(0.01)
        back_s = time.perf_counter() - healed_s
        await back(stand, client)
    return {
        "requests": requests,
        "answered_503": sum(r.status == 503 for r in replies),
        "attempts_per_request": tried / requests,
        "back_in_rotation_s": back_s,
    }


async def fails_fast(stand: Stand, status: int, requests: int = 300) -> Figures:
    """One engine answers at once with an error; it must not draw the load to itself."""
    victim = stand.engines[0]
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(stand.url))
        door = await stack.enter_async_context(Client(victim.url))
        await door.post("/emulated/fault", {"kind": "error", "status": status})
        replies = await in_turn(requests, 10, lambda _: client.ask(tokens=4))
        struck = (await door.get("/emulated/state"))[1]["struck"]
        await door.delete("/emulated/fault")
        await back(stand, client)
    return {
        "requests": requests,
        "failed": failed(replies),
        "tries_on_it": struck,
        "tries_share": struck / requests,
    }


async def _seen(doors: Sequence[Client]) -> int:
    return sum([(await d.get("/emulated/state"))[1]["seen"] for d in doors])


def _title(reply: Reply) -> set[str]:
    return {name.title() for name in reply.headers}
