"""A measured profile: probe a running engine for a bounded time and fit its step-time law.

The first pass takes the probes of `profiler.probes` in order of what they tell, as far as the
time allows; what is left of it repeats the probes whose repeats differ most. The points are then
fitted (`profiler.step_fit`), and two that were held out say how well the law carries over.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import platform
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, ParamSpec

import aiohttp
import numpy as np

from profiler.client import open_session, random_token_ids, stream_completion
from profiler.core import Profile, Provenance, ReplicaConfig, StepTime
from profiler.endpoint import Endpoint, describe
from profiler.errors import ClusterError, EngineError, InputError
from profiler.hardware import find_hardware
from profiler.probes import Probe, design, fold, points_of
from profiler.step_fit import Point, fit_step_time, median_error, rough_step_time
from profiler.timing import Clock, RequestTiming, raise_for

SETTLED_SPREAD = 0.05
"""Repeats that differ by less than this are not repeated again."""

MAX_REPEATS = 5

_P = ParamSpec("_P")


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
    skipped = tuple(runner.skipped)
    provenance = Provenance(
        kind="measured",
        date=today or dt.datetime.now(tz=dt.UTC).date(),
        host=host or platform.node(),
        **_hardware(config, hardware),
        engine=endpoint.engine,
        note=_note(held_out, law, skipped),
        points=len(points),
        tpot_error=median_error(points, law, "decode"),
        ttft_error=median_error(points, law, "prefill"),
    )
    profile = Profile(
        config=config,
        step_time=law,
        kv_capacity_tokens=capacity,
        kv_block_tokens=endpoint.kv_block_tokens or 16,
        max_model_len=context,
        provenance=provenance,
    )
    return Measurement(endpoint, profile, points, held_out, skipped, clock() - start)


def _blocking(
    function: Callable[_P, Coroutine[Any, Any, Measurement]],
) -> Callable[_P, Measurement]:
    """The same function for callers without an event loop."""

    @functools.wraps(function)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> Measurement:
        return asyncio.run(function(*args, **kwargs))

    return run


measure_engine = _blocking(measure)


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


def _hardware(config: ReplicaConfig, given: str | None) -> dict[str, str | None]:
    """The hardware and driver of a provenance: what was given, or what this machine has."""
    if given is not None:
        return {"hardware": given, "driver": None}
    found = find_hardware()
    if found.gpus and config.gpu != "cpu":
        return {"hardware": found.gpus[0].name, "driver": found.driver}
    return {"hardware": found.cpu.name, "driver": None}


def _note(held_out: Sequence[Point], law: StepTime, skipped: Sequence[str]) -> str | None:
    parts = [f"held-out {p.kind} error {abs(p.error(law)):.1%}" for p in held_out]
    parts += [f"{len(skipped)} probes skipped"] if skipped else []
    return "; ".join(parts) or None
