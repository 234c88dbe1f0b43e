"""Too much load, unequal tenants, a learned router in trouble: done to a `Stand` and counted."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from benchmarks.fault_cases import Figures, at_rest, failed
from benchmarks.gateway_ours import outcomes
from benchmarks.stand import Pool, Stand, made_plan
from benchmarks.stand_client import Client, Reply, arrivals, at, in_turn
from placement.explanation import Prices
from placement.plan import Plan, PlannedRouter, Route
from profiler.core import Slo
from profiler.files import sha256_of
from serve_apps.guard import keys_file
from serve_apps.guard.keys import KeyEntry
from serve_apps.guard.settings import GuardSettings
from serve_apps.pool import IngressSettings
from serve_apps.router.difficulty import bins_of
from serve_apps.router.training import train
from serve_apps.seeing.settings import SeeingSettings

SLOW = Pool(engines=2, step_s=0.02, per_sequence_s=5e-4, max_num_seqs=8)
SLO = Slo(ttft_s=1.0, tpot_s=0.06, attainment=0.95)
TOKENS = 24
SHED_S = 0.05
SETTLE_S = 2.0
LOOK_S = 0.005
HARMS = ("raise", "hang", "garble")


def slow_stand(ingress: IngressSettings | None = None) -> Stand:
    """Two engines that a laptop can overload many times over."""
    settings = ingress or IngressSettings(port=0, seeing=SeeingSettings(journal=100_000))
    return Stand(pools=(SLOW,), slo=SLO, output_tokens=TOKENS, ingress=settings)


def good(reply: Reply, began_s: float, ended_s: float) -> bool:
    """Answered in full and in time, and begun between these moments."""
    in_time = reply.first_s is not None and reply.first_s <= SLO.ttft_s
    return reply.ok and in_time and began_s <= reply.began_s < ended_s


async def capacity_rps(client: Client, seconds: float) -> float:
    """What the engines can do at most inside the SLO: as many at work as they have slots."""
    width = SLOW.engines * SLOW.max_num_seqs
    until_s = time.perf_counter() + seconds
    done = 0

    async def worker() -> None:
        nonlocal done
        while time.perf_counter() < until_s:
            reply = await client.ask(stream=True, tokens=TOKENS)
            done += good(reply, 0.0, until_s) and time.perf_counter() <= until_s

    await asyncio.gather(*(worker() for _ in range(width)))
    return done / seconds


async def overload(stand: Stand, times: float, seconds: float) -> Figures:
    """So many times what the engines can do: they go on at full, and who is refused knows soon.

    How soon is told twice: as this client saw it, which shares the machine and one event loop with
    all other clients, and as the ingress did (``refused_server_*``).
    """
    async with Client(stand.url) as client:
        capacity = await capacity_rps(client, seconds)
        await at_rest(client)
        began_s = time.perf_counter()
        watching, lags_s = own_lags()
        replies = await at(
            arrivals(times * capacity, seconds),
            lambda _: client.ask(stream=True, tokens=TOKENS),
        )
        watching.cancel()
        lasted_s = max(r.began_s + r.took_s for r in replies if r.ok) - began_s
        await at_rest(client)
        _, there_s = await client.get("/stand/refused")
    served = sum(good(r, began_s, float("inf")) for r in replies)
    refused = [r for r in replies if not r.ok]
    late = sorted(r.took_s for r in refused)
    server = sorted(there_s.values())
    lags_s.sort()
    return {
        "requests": len(replies),
        "capacity_rps": capacity,
        "goodput_rps": served / lasted_s,
        "goodput_share": served / lasted_s / capacity,
        "late_answers": sum(r.ok for r in replies) - served,
        "refused": len(refused),
        "refused_otherwise": sum(
            r.status != 429 or "retry-after" not in {h.lower() for h in r.headers} for r in refused
        ),
        "refused_p50_s": statistics.median(late),
        "refused_p99_s": late[int(0.99 * (len(late) - 1))],
        "refused_slowest_s": late[-1],
        "refused_within_50_ms": sum(s <= SHED_S for s in late) / len(late),
        "refused_server_p99_s": server[int(0.99 * (len(server) - 1))],
        "refused_server_slowest_s": server[-1],
        "refused_server_within_50_ms": sum(s <= SHED_S for s in server) / len(server),
        "client_lag_p99_s": lags_s[int(0.99 * (len(lags_s) - 1))],
        "client_lag_most_s": lags_s[-1],
    }


def own_lags() -> tuple[asyncio.Task[None], list[float]]:
    """How late this process's own event loop is, looked at until the task is cancelled."""
    lags_s: list[float] = []

    async def watch() -> None:
        while True:
            due_s = time.perf_counter() + LOOK_S
            await asyncio.sleep(LOOK_S)
            lags_s.append(time.perf_counter() - due_s)

    return asyncio.ensure_future(watch()), lags_s


def keys_of(directory: Path, tenants: Sequence[str]) -> tuple[GuardSettings, dict[str, str]]:
    """Settings with a key for each tenant, and the keys."""
    path = directory / "keys.yaml"

    def key(tenant: str) -> str:
        made, _ = keys_file.create(
            path, lambda key_id, digest: KeyEntry(id=key_id, hash=digest, tenant=tenant)
        )
        return made

    return GuardSettings(keys=str(path)), {tenant: key(tenant) for tenant in tenants}


async def unequal_tenants(stand: Stand, keys: dict[str, str], seconds: float) -> Figures:
    """One asks ten times as often as the other, and both for more than their half."""
    rates = {"loud": 10.0, "quiet": 1.0}
    async with Client(stand.url) as client:
        headers = {t: {"authorization": f"Bearer {k}"} for t, k in keys.items()}
        own = headers["quiet"]
        capacity = await _capacity_of(client, own)
        # Were it nearer to its half, an error in what they can do would leave it asking for less.
        unit = capacity

        async def ask(tenant: str) -> Reply:
            reply = await client.ask(stream=True, tokens=TOKENS, headers=headers[tenant])
            reply.tenant = tenant
            return reply

        async def flow(seed: int, tenant: str) -> list[Reply]:
            times_s = arrivals(unit * rates[tenant], seconds, seed)
            return await at(times_s, lambda _: ask(tenant))

        flows = await asyncio.gather(*(flow(i, t) for i, t in enumerate(rates)))
        replies = [r for found in flows for r in found]
        began_s = min(r.began_s for r in replies)
        await at_rest(client)
    full = [  # once both have a queue
        r for r in replies if r.ok and began_s + SETTLE_S < r.began_s < began_s + seconds
    ]
    got = [sum(r.tenant == t for r in full) for t in rates]
    return {
        "requests": len(replies),
        "loud": got[0],
        "quiet": got[1],
        "capacity_rps": capacity,
        "jain": sum(got) ** 2 / (len(got) * sum(g * g for g in got)),
    }


async def _capacity_of(client: Client, headers: dict[str, str]) -> float:
    width = SLOW.engines * SLOW.max_num_seqs
    began_s = time.perf_counter()
    replies = await in_turn(
        6 * width, width, lambda _: client.ask(stream=True, tokens=TOKENS, headers=headers)
    )
    return sum(r.ok for r in replies) / (time.perf_counter() - began_s)


def learned_plan(directory: Path) -> tuple[Plan, str]:
    """A plan of two models with a router that was trained for it, and the router's file."""
    path = directory / "router.npz"
    artefact = train(outcomes())
    artefact.save(path)
    pools = [
        Pool("small", "small", engines=1, step_s=0.005, usd_per_hour=0.1),
        Pool("large", "large", engines=1, step_s=0.01, usd_per_hour=0.5),
    ]
    plan = made_plan(pools, Slo(ttft_s=2.0, tpot_s=0.1, attainment=0.95))
    bucket = plan.routes[0].bucket
    routes = tuple(
        Route(stream="auto", bucket=bucket, rate_rps=20, difficulty=k, shares={p.name: 1.0})
        for k, p in enumerate(pools)
    )
    router = PlannedRouter(
        artefact=path.name,
        sha256=sha256_of(path),
        models={p.model: p.model for p in pools},
        edges=bins_of(artefact.reference_estimates(), 2).edges.tolist(),
    )
    prices = Prices(quality={"auto": 5.0}, load={"small": 0.12, "large": 0.6})
    return plan.model_copy(update={"routes": routes, "router": router, "prices": prices}), str(path)


async def router_in_trouble(stand: Stand, harm: str, requests: int = 40) -> Figures:
    """The learned router raises, hangs or answers nonsense; requests go by the plan's shares."""
    async with Client(stand.url) as client:
        ask = _asks(client)
        await client.post("/stand/harm/none")
        await trusted_of(client)
        calm = await in_turn(requests, 4, ask)
        await client.post(f"/stand/harm/{harm}")
        replies = await in_turn(requests, 4, ask)
        await client.post("/stand/harm/none")
        await at_rest(client)
    median_s = statistics.median(r.took_s for r in calm)
    return {
        "requests": len(replies),
        "failed": failed(replies),
        "fell_back": sum("shares stand in" in _reason(r) or "%" in _reason(r) for r in replies),
        "calm_p50_s": median_s,
        "added_p50_s": statistics.median(r.took_s for r in replies) - median_s,
        "added_most_s": max(r.took_s for r in replies) - median_s,
    }


async def trusted_of(client: Client) -> None:
    """One answer of each model."""
    for model in ("small", "large"):
        await client.ask(model=model, tokens=2)


def _asks(client: Client) -> Callable[[int], Awaitable[Reply]]:
    async def ask(i: int) -> Reply:
        return await client.ask(model="auto", prompt=f"what of the river {i}", tokens=4)

    return ask


def _reason(reply: Reply) -> str:
    return {k.lower(): v for k, v in reply.headers.items()}.get("x-orchestrator-reason", "")
