"""Loads that a profile's predictions are held against, on the simulated and on the real engine.

Closed loops at several concurrencies and sizes, and an open-loop burst. None repeats a probe of
`profiler.probes`: they differ in prompts, answers and numbers of clients, and have both mixed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from orchestrator.simulator import simulate_trace
from profiler.client import open_session, random_token_ids, replay, stream_completion
from profiler.core import Profile
from profiler.emulated.replica import Replica, Request
from profiler.timing import RequestTiming, raise_for
from profiler.traces import Trace

RAMP_S = 0.15
TURN_S = 1e-3
"""A client's turn takes a moment: it misses the step that starts as its last answer ends."""


@dataclass(frozen=True)
class Seen:
    """What one point showed: medians over its requests, and output tokens per second."""

    tpot_s: float
    ttft_s: float
    throughput: float


def seen(
    sent_s: Sequence[float], first_s: Sequence[float], last_s: Sequence[float], out: Sequence[int]
) -> Seen:
    """From the times of each request and its output tokens."""
    requests = list(zip(sent_s, first_s, last_s, out, strict=True))
    return Seen(
        tpot_s=median((last - first) / (n - 1) for _, first, last, n in requests if n > 1),
        ttft_s=median(first - sent for sent, first, _, _ in requests),
        throughput=sum(out) / (max(last_s) - min(sent_s)),
    )


def of_timings(timings: Sequence[RequestTiming], url: str) -> Seen:
    """What measured requests showed; raises when one failed."""
    for timing in timings:
        raise_for(timing, url)
    return seen(
        [t.sent_s if t.due_s is None else t.due_s for t in timings],
        [t.tokens[0][0] for t in timings],
        [t.tokens[-1][0] for t in timings],
        [t.output_tokens for t in timings],
    )


@dataclass(frozen=True)
class Loop:
    """Clients that each send their next request when the last one ended.

    They start one by one, ``RAMP_S`` apart, and ask for answers of slightly different lengths.
    """

    clients: int
    input_tokens: int
    output_tokens: int
    rounds: int

    def __str__(self) -> str:
        return f"{self.clients} x {self.input_tokens}+{self.output_tokens}"

    def sizes(self) -> list[list[tuple[int, int]]]:
        """Input and output tokens of each request of each client; the same at every call."""
        rng = np.random.default_rng(self.clients)
        shape = (self.clients, self.rounds)
        inputs = rng.integers(self.input_tokens * 3 // 4, self.input_tokens * 5 // 4, shape)
        outputs = rng.integers(self.output_tokens * 3 // 4, self.output_tokens * 5 // 4, shape)
        return [
            list(zip(i, o, strict=True))
            for i, o in zip(inputs.tolist(), outputs.tolist(), strict=True)
        ]

    def predict(self, profile: Profile) -> Seen:
        """The loop on one simulated engine."""
        engine, overhead_s = Replica(profile, 0, None), profile.request_overhead_s
        plan = [list(reversed(sizes)) for sizes in self.sizes()]
        due = [(client * RAMP_S, client) for client in range(self.clients)]
        running: dict[int, Request] = {}
        done: list[Request] = []
        while due or running:
            due.sort()
            while due and (not running or due[0][0] <= engine.clock_s):
                at_s, client = due.pop(0)
                running[client] = Request(at_s, *plan[client].pop())
                engine.submit(running[client])
            engine.advance(engine.clock_s + 1e-9)  # one step
            for client in [c for c, r in running.items() if np.isfinite(r.finish_s)]:
                request = running.pop(client)
                done.append(request)
                if plan[client]:
                    due.append((request.finish_s + overhead_s + TURN_S, client))
        return seen(
            [r.arrival_s for r in done],
            [r.first_token_s + overhead_s for r in done],
            [r.finish_s + overhead_s for r in done],
            [r.output_tokens for r in done],
        )

    async def measure(self, url: str, model: str) -> Seen:
        """The loop on the real engine."""
        rng = np.random.default_rng()

        async def client(number: int, sizes: list[tuple[int, int]]) -> list[RequestTiming]:
            await asyncio.sleep(number * RAMP_S)
            found = []
            for inputs, outputs in sizes:
                prompt = random_token_ids(rng, inputs)
                found.append(
                    await stream_completion(session, url, model, prompt, outputs, exact_length=True)
                )
            return found

        async with open_session() as session:
            clients = [client(i, sizes) for i, sizes in enumerate(self.sizes())]
            return of_timings([t for c in await asyncio.gather(*clients) for t in c], url)


@dataclass(frozen=True)
class Burst:
    """Arrivals at random, faster than the engine keeps up with; sizes as a chat has them."""

    requests: int
    over_s: float
    seed: int = 7

    def __str__(self) -> str:
        return f"burst of {self.requests} in {self.over_s:.0f} s"

    def trace(self) -> Trace:
        """The same at every call."""
        rng, count = np.random.default_rng(self.seed), self.requests
        arrivals = np.sort(rng.uniform(0, self.over_s, count))
        return Trace(
            arrival_s=arrivals - arrivals[0],
            input_tokens=np.clip(rng.lognormal(np.log(50), 0.6, count), 8, 300).astype(np.int64),
            output_tokens=np.clip(rng.lognormal(np.log(18), 0.5, count), 4, 60).astype(np.int64),
            source="burst",
        )

    def predict(self, profile: Profile) -> Seen:
        """The burst on one simulated engine."""
        told = simulate_trace(profile, self.trace())
        return seen(
            told.arrival_s.tolist(),
            told.first_token_s.tolist(),
            told.finish_s.tolist(),
            told.output_tokens.tolist(),
        )

    async def measure(self, url: str, model: str) -> Seen:
        """The burst on the real engine."""
        return of_timings(await replay(url, model, self.trace(), rng=np.random.default_rng()), url)


Check = Loop | Burst

CHECKS: tuple[Check, ...] = (
    Loop(1, 150, 24, 4),
    Loop(2, 80, 30, 4),
    Loop(4, 120, 24, 4),
    Loop(5, 350, 20, 2),
    Loop(9, 50, 30, 3),
    Loop(17, 60, 24, 2),
    Loop(27, 25, 20, 2),
    Burst(45, 12.0),
)
"""The held-out points, fixed before anything is measured."""
