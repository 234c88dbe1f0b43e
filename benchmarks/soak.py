"""The ingress under steady load for a long time: memory, tasks, sockets and slots must not grow.

    python -m benchmarks.soak [--minutes 30]

Two emulated engines at 70 % of what they can do: streams, plain answers, clients that leave, bad
requests. The ingress remembers its last few thousand requests, so its memory grows at first; it is
judged by the second half of the run. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import time
from collections.abc import Sequence

from benchmarks.fault_cases import Figures, at_rest, engines_free
from benchmarks.stand import Pool, Stand
from benchmarks.stand_client import Client, Reply, arrivals, at, in_turn

SHARE = 0.7
TOKENS = 16
SAMPLES = 40
SETTLE_S = 6.0
"""Engines close a connection that has rested for five seconds."""
POOL = Pool(max_num_seqs=8)


async def capacity_rps(client: Client, rounds: int = 10) -> float:
    """What the engines can do when all their slots are taken."""
    width = POOL.engines * POOL.max_num_seqs
    began_s = time.perf_counter()
    replies = await in_turn(rounds * width, width, lambda _: client.ask(tokens=TOKENS))
    return sum(r.ok for r in replies) / (time.perf_counter() - began_s)


async def any_request(client: Client, rng: random.Random) -> Reply:
    """As they come: most go well, some clients leave, some ask for what cannot be."""
    stream, fate = rng.random() < 0.5, rng.random()
    if fate < 0.02:
        return await client.ask(model="none such")
    if fate < 0.04:
        return await client.ask(tokens=1_000_000)
    asked = asyncio.ensure_future(client.ask(stream=stream, tokens=TOKENS))
    if fate < 0.10:
        await asyncio.wait([asked], timeout=0.2 * rng.random())
        if not asked.done():
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
            return Reply(error="left")
    return await asked


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Least squares, of the second of each pair by the first."""
    return statistics.linear_regression(*zip(*points, strict=True)).slope


async def soak(stand: Stand, seconds: float) -> Figures:
    """Load the stand for so long, then look at what is left."""
    rng = random.Random(0)
    samples: list[tuple[float, float]] = []
    async with Client(stand.url) as client:
        rate_rps = SHARE * await capacity_rps(client)
    before = await _settled(stand)
    began_s = time.perf_counter()
    async with Client(stand.url) as client:

        async def watch() -> None:
            while True:
                _, state = await client.get("/stand/state")
                samples.append((time.perf_counter() - began_s, state["rss_bytes"] / 2**20))
                await asyncio.sleep(seconds / SAMPLES)

        watching = asyncio.ensure_future(watch())
        replies = await at(arrivals(rate_rps, seconds), lambda _: any_request(client, rng))
        watching.cancel()
    after = await _settled(stand)
    await engines_free(stand)
    half = [s for s in samples if s[0] >= seconds / 2]
    held = {
        f"{what}_{when}": float(str(state[what]))
        for what in ("tasks", "sockets", "files", "in_flight")
        for when, state in (("at_first", before), ("at_last", after))
    }
    return {
        "seconds": seconds,
        "rate_rps": rate_rps,
        "requests": len(replies),
        "ok": sum(r.ok for r in replies),
        "left": sum(r.error == "left" for r in replies),
        "answered_5xx": sum(r.status >= 500 for r in replies),
        "of_those_timeouts": sum(r.status == 504 for r in replies),
        "overloaded": sum(r.status == 429 for r in replies),
        "broken_off": sum(bool(r.error) and r.error != "left" for r in replies),
        "rss_mib_at_first": samples[0][1],
        "rss_mib_at_half": half[0][1],
        "rss_mib_at_last": samples[-1][1],
        "rss_mib_per_1000_requests": 1000 / rate_rps * slope(half),
        "in_flight": float(str(after["in_flight"])),
        "upstream": float(str(after["upstream"])),
        "tasks_more": held["tasks_at_last"] - held["tasks_at_first"],
        "files_more": held["files_at_last"] - held["files_at_first"],
        **held,
    }


async def _settled(stand: Stand) -> dict[str, object]:
    """The ingress's state when all clients are gone."""
    await asyncio.sleep(SETTLE_S)
    async with Client(stand.url) as client:
        return await at_rest(client)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    given = parser.parse_args()
    with Stand(pools=(POOL,)) as stand:
        figures = asyncio.run(soak(stand, 60 * given.minutes))
    for name, value in figures.items():
        print(f"{name:28} {value:12,.2f}")
    print(json.dumps({k: round(v, 4) for k, v in figures.items()}))


if __name__ == "__main__":
    main()
