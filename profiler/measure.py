"""A measured profile: probe a running engine for a bounded time and fit its step-time law.

A probe is a batch of equal requests. Once all of them decode, it shows the mean decode step,
``a + c*N + d*S`` with S the contexts half-way through that window. A probe of one request also
shows the time of its prefill steps, ``steps*a + b*P``, as its time to first token. The first
pass takes the probes in order of what they tell, the extremes early, as far as the time allows;
what is left of it repeats the probes whose repeats differ most.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import aiohttp
import numpy as np

from profiler.client import (
    Clock,
    RequestTiming,
    open_session,
    raise_for,
    random_token_ids,
    stream_completion,
)
from profiler.core import Profile, Provenance, ReplicaConfig, StepTime
from profiler.endpoint import Endpoint, describe
from profiler.errors import ClusterError, EngineError, InputError
from profiler.fit import Point, fit_step_time, median_error, rough_step_time
from profiler.hardware import find_hardware

DECODE_STEPS = 24
"""Steady decode steps in one probe: enough for the mean to outweigh one late step."""

SETTLED_SPREAD = 0.05
"""Repeats that differ by less than this are not repeated again."""

MAX_REPEATS = 5


@dataclass(frozen=True)
class Probe:
    """One thing to try: ``sequences`` equal requests at once."""

    sequences: int
    input_tokens: int
    output_tokens: int
    held_out: bool = False

    def __str__(self) -> str:
        return f"{self.sequences} x {self.input_tokens}+{self.output_tokens} tokens"


@dataclass(frozen=True)
class Progress:
    """Where a measurement stands; ``probe`` has just ended and gave ``points``."""

    probe: Probe
    points: tuple[Point, ...]
    elapsed_s: float
    budget_s: float


@dataclass(frozen=True)
class Measurement:
    """What was measured and what follows from it.

    ``held_out`` points took no part in the fit; ``skipped`` says which probes did not run, and
    why. Errors are medians of absolute relative errors.
    """

    endpoint: Endpoint
    profile: Profile
    points: tuple[Point, ...]
    held_out: tuple[Point, ...]
    skipped: tuple[str, ...]
    wall_s: float

    @property
    def step_time(self) -> StepTime:
        """The fitted law."""
        return self.profile.step_time

    def residuals(self) -> list[tuple[Point, float]]:
        """Each fitted point with its relative error, (predicted - measured) / measured."""
        return [(p, p.error(self.step_time)) for p in self.points]

    @property
    def held_out_error(self) -> float | None:
        """Median relative error on points the fit did not see; None when none was taken."""
        errors = [abs(p.error(self.step_time)) for p in self.held_out]
        return median(errors) if errors else None


def measure_engine(url: str, config: ReplicaConfig, **options: object) -> Measurement:
    """`measure` for callers without an event loop; takes the same options."""
    return asyncio.run(measure(url, config, **options))  # type: ignore[arg-type]


async def measure(
    url: str,
    config: ReplicaConfig,
    *,
    budget_s: float = 40.0,
    model: str | None = None,
    kv_capacity_tokens: int | None = None,
    max_model_len: int | None = None,
    hardware: str | None = None,
    host: str | None = None,
    headers: Mapping[str, str] | None = None,
    clock: Clock = time.perf_counter,
    rng: np.random.Generator | None = None,
    today: dt.date | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Measurement:
    """Measure an idle engine and fit its profile.

    Args:
        url: the server's base, with or without ``/v1``.
        config: what runs there; its engine options must be those the server was started with.
        budget_s: about how long to take; one probe may run over.
        model: the served name; the server's first when None.
        kv_capacity_tokens: used where the server's ``/metrics`` do not tell.
        max_model_len: used where the server does not tell; then ``config``'s.
        hardware: what the engine runs on; this machine's CPU or GPU when None, so give it for
            an engine elsewhere.
        host: the engine's host; this machine's name when None.
        headers: such as authorization.
        clock: seconds, monotonic.
        rng: draws the prompts.
        today: the date of the measurement.
        on_progress: called after each probe.

    Raises:
        ClusterError: the server is unreachable, overloaded, busy, or refuses a request.
        EngineError: the server failed or died on the way.
        InputError: the budget allowed too few points to tell the coefficients apart, or a limit
            is neither told by the server nor given.
    """
    start = clock()
    async with open_session(timeout_s=max(60.0, 4 * budget_s)) as session:
        endpoint = await describe(session, url, model=model, headers=headers)
        if endpoint.requests_in_flight:
            raise ClusterError(
                f"{url}: busy with {endpoint.requests_in_flight} requests, which would spoil the "
                "times; measure an engine that nobody else uses"
            )
        context = _limit(
            "max_model_len", endpoint.max_model_len or max_model_len or config.engine.max_model_len
        )
        capacity = _limit("kv_capacity_tokens", endpoint.kv_capacity_tokens or kv_capacity_tokens)
        runner = _Runner(
            session,
            endpoint,
            config,
            budget_s=budget_s,
            start_s=start,
            clock=clock,
            rng=rng or np.random.default_rng(),
            headers=headers,
            on_progress=on_progress,
        )
        await runner.warm_up()
        await runner.first_pass(design(config, context, capacity))
        await runner.repeat_noisy()
    points, held_out = runner.points(held_out=False), runner.points(held_out=True)
    law = fit_step_time(points)
    found = find_hardware()
    gpu = found.gpus[0].name if found.gpus and config.gpu != "cpu" else None
    note = _note(held_out, law, runner.skipped)
    provenance = Provenance(
        kind="measured",
        date=today or dt.datetime.now(tz=dt.UTC).date(),
        host=host or platform.node(),
        hardware=hardware or gpu or found.cpu.name,
        driver=found.driver if gpu and hardware is None else None,
        engine=endpoint.engine,
        note=note,
        points=len(points),
        tpot_error=median_error(points, law, "decode"),
        ttft_error=median_error(points, law, "prefill"),
    )
    profile = Profile(
        config=config,
        step_time=law,
        kv_capacity_tokens=capacity,
        max_model_len=context,
        provenance=provenance,
    )
    return Measurement(endpoint, profile, points, held_out, tuple(runner.skipped), clock() - start)


def design(config: ReplicaConfig, max_model_len: int, kv_capacity_tokens: int) -> list[Probe]:
    """The probes in order of what they tell, inside the engine's limits.

    The first five already identify the law: three prompt lengths, and one, few and the most
    sequences. Middle points follow, among them two that only check the fit.
    """
    longest = min(max_model_len, kv_capacity_tokens) - 1
    short, middle, long = (max(1, min(n, longest // d)) for n, d in ((32, 8), (256, 4), (768, 2)))
    most = min(config.engine.max_num_seqs, config.engine.max_num_batched_tokens)
    widths = [n for n in (1, 4, 8, 16, 32, 64, 128, 256) if n <= most]
    widest = widths[-1]

    def probe(sequences: int, context: int, *, held_out: bool = False) -> Probe:
        # The requests of a batch start as many steps apart as their prompts need.
        waves = -(-sequences * context // config.engine.max_num_batched_tokens)
        return Probe(sequences, context, DECODE_STEPS + waves + 2, held_out)

    wanted = [
        probe(1, short),
        probe(1, middle),
        probe(min(4, widest), short),
        probe(widest, short),
        probe(1, long),
        probe(widths[len(widths) // 2], short),
        probe(min(4, widest), middle),
        probe(1, (middle + long) // 2, held_out=True),
        probe(min(6, widest), (short + middle) // 2, held_out=True),
        *(probe(n, short) for n in reversed(widths)),
    ]
    return [
        p
        for p in dict.fromkeys(wanted)
        if p.input_tokens + p.output_tokens <= longest
        and p.sequences * (p.input_tokens + p.output_tokens) <= kv_capacity_tokens
    ]


def points_of(timings: Sequence[RequestTiming], config: ReplicaConfig) -> tuple[Point, ...]:
    """What a batch of equal requests shows; nothing when its requests never all decoded."""
    decode = decode_point(timings)
    if decode is None:
        return ()
    return (decode,) if len(timings) > 1 else (prefill_point(timings[0], config), decode)


def decode_point(timings: Sequence[RequestTiming]) -> Point | None:
    """The mean step while all requests of a batch decode; None when that never was.

    Each request gives (time between its first and last token inside the window) / tokens; the
    median over the requests is robust to one whose stream was held up on the network.
    """
    opens = max(t.tokens[0][0] for t in timings)
    closes = min(t.tokens[-1][0] for t in timings)
    steps: list[float] = []
    kv_tokens = 0.0
    for timing in timings:
        inside = [(at, count) for at, count in timing.tokens if opens <= at <= closes]
        if len(inside) < 2:
            return None
        (first_s, first), (last_s, last) = inside[0], inside[-1]
        steps.append((last_s - first_s) / (last - first))
        # Making token k of an answer attends to the prompt and the k - 1 tokens before it, and
        # the steps of the window make tokens first + 1 .. last.
        kv_tokens += (timing.input_tokens or 0) + (first + last - 1) / 2
    return Point("decode", median(steps), sequences=len(timings), kv_tokens=kv_tokens)


def prefill_point(timing: RequestTiming, config: ReplicaConfig) -> Point:
    """The prefill of a request that was alone in the engine."""
    tokens = timing.input_tokens or 0
    steps = max(1, -(-tokens // config.engine.max_num_batched_tokens))
    return Point("prefill", timing.tokens[0][0] - timing.sent_s, steps=steps, prefill_tokens=tokens)


def fold(repeats: Sequence[Point]) -> Point:
    """One point from its repeats: medians, and how far apart the times were."""
    times = [p.time_s for p in repeats]
    middle = median(times)
    return Point(
        repeats[0].kind,
        middle,
        repeats[0].steps,
        repeats[0].prefill_tokens,
        repeats[0].sequences,
        median(p.kv_tokens for p in repeats),
        spread=(max(times) - min(times)) / middle,
        repeats=len(times),
    )


@dataclass
class _Runner:
    """Runs probes against one endpoint and keeps what they gave and cost."""

    session: aiohttp.ClientSession
    endpoint: Endpoint
    config: ReplicaConfig
    budget_s: float
    start_s: float
    clock: Clock
    rng: np.random.Generator
    headers: Mapping[str, str] | None
    on_progress: Callable[[Progress], None] | None
    skipped: list[str] = field(default_factory=list)
    _found: dict[Probe, list[tuple[Point, ...]]] = field(default_factory=dict)
    _cost_s: dict[Probe, float] = field(default_factory=dict)

    def points(self, *, held_out: bool) -> tuple[Point, ...]:
        return tuple(
            fold(repeats)
            for probe, found in self._found.items()
            if probe.held_out is held_out
            for repeats in zip(*found, strict=True)
        )

    async def warm_up(self) -> None:
        """First requests pay for compilation and caches; nobody should see their times."""
        width = min(4, self.config.engine.max_num_seqs)
        await self._send(Probe(1, 8, 2))
        await self._send(Probe(width, 8, 4))

    async def first_pass(self, probes: Sequence[Probe]) -> None:
        for probe in probes:
            cost, left = self._estimate_s(probe), self._left_s()
            if cost > left:
                self.skipped.append(
                    f"{probe}: would take about {cost:.0f} s of the {max(left, 0):.0f} s left"
                )
                continue
            await self._run(probe)

    async def repeat_noisy(self) -> None:
        """Spend what time is left where repeats are fewest, then where they differ most."""
        while True:
            open_probes = [
                p
                for p, found in self._found.items()
                if self._cost_s[p] <= self._left_s() and _unsettled(found)
            ]
            if not open_probes:
                return
            await self._run(
                min(open_probes, key=lambda p: (len(self._found[p]), -_spread(self._found[p])))
            )

    async def _run(self, probe: Probe) -> None:
        began = self.clock()
        points = points_of(await self._send(probe), self.config)
        self._cost_s[probe] = self.clock() - began
        if not points:
            self.skipped.append(
                f"{probe}: its requests never all decoded at once; is the engine's max_num_seqs "
                f"really {self.config.engine.max_num_seqs}?"
            )
            return
        self._found.setdefault(probe, []).append(points)
        if self.on_progress is not None:
            elapsed = self.clock() - self.start_s
            self.on_progress(Progress(probe, points, elapsed, self.budget_s))

    async def _send(self, probe: Probe) -> list[RequestTiming]:
        requests = [
            stream_completion(
                self.session,
                self.endpoint.url,
                self.endpoint.model,
                random_token_ids(self.rng, probe.input_tokens),
                probe.output_tokens,
                exact_length=True,
                headers=self.headers,
                clock=self.clock,
            )
            for _ in range(probe.sequences)
        ]
        timings = list(await asyncio.gather(*requests))
        for timing in timings:
            raise_for(timing, self.endpoint.url)
            self._check_lengths(timing, probe)
        return timings

    def _check_lengths(self, timing: RequestTiming, probe: Probe) -> None:
        found = (timing.input_tokens, timing.output_tokens)
        if timing.counted_by == "chunks" or found != (probe.input_tokens, probe.output_tokens):
            raise EngineError(
                f"{self.endpoint.url}: found {timing.input_tokens} input and "
                f"{timing.output_tokens} output tokens (by {timing.counted_by}), expected exactly "
                f"{probe.input_tokens} and {probe.output_tokens} by usage; measuring needs an "
                "engine that accepts token ids, ignore_eos and stream usage, as vLLM does"
            )

    def _left_s(self) -> float:
        return self.budget_s - (self.clock() - self.start_s)

    def _estimate_s(self, probe: Probe) -> float:
        """About how long a probe takes by the points so far; too little while they are few."""
        law = rough_step_time([point for found in self._found.values() for point in found[-1]])
        context = probe.input_tokens + probe.output_tokens / 2
        return law(probe.sequences * probe.input_tokens, 0, 0) + probe.output_tokens * law(
            0, probe.sequences, probe.sequences * context
        )


def _spread(found: Sequence[tuple[Point, ...]]) -> float:
    """The largest spread of any point that a probe shows."""
    return max(fold(repeats).spread for repeats in zip(*found, strict=True))


def _unsettled(found: Sequence[tuple[Point, ...]]) -> bool:
    return len(found) < 2 or (_spread(found) > SETTLED_SPREAD and len(found) < MAX_REPEATS)


def _limit(name: str, value: int | None) -> int:
    if value is None:
        raise InputError(f"the server does not tell {name}; give it as an argument")
    return value


def _note(held_out: Sequence[Point], law: StepTime, skipped: Sequence[str]) -> str | None:
    parts = [f"held-out {p.kind} error {abs(p.error(law)):.1%}" for p in held_out]
    parts += [f"{len(skipped)} probes skipped"] if skipped else []
    return "; ".join(parts) or None
