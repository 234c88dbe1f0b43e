"""A measured profile: probe a running engine for a bounded time and fit its step-time law.

`profiler.campaign` decides what to probe; here are the requests, the fit and the profile.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import platform
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, ParamSpec

import aiohttp
import numpy as np

from profiler.campaign import DRIFT_LIMIT, Campaign, Progress
from profiler.client import open_session, random_token_ids, stream_completion
from profiler.core import Profile, Provenance, ReplicaConfig, StepTime
from profiler.endpoint import Endpoint, describe
from profiler.errors import ClusterError, EngineError, InputError
from profiler.evidence import as_noun
from profiler.hardware import find_hardware
from profiler.points import Identity, PointsFile
from profiler.power import PowerMeter
from profiler.probes import Probe, limits_of
from profiler.step_fit import Fit, Point, fit_points
from profiler.timing import Clock, Outcome, RequestTiming, raise_for

__all__ = ["Measurement", "Progress", "measure", "measure_engine"]

FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 8.0
"""After a 429 the probe is sent again, each time after twice as long, as far as the budget goes."""

MAX_DRIFT = 1.0
"""With the reference off by more than this factor of its median, no law describes the machine."""

_P = ParamSpec("_P")


@dataclass(frozen=True)
class Measurement:
    """What was measured and what follows from it.

    ``held_out`` points took no part in the fit; ``skipped`` says which probes did not run, and
    why; ``resumed`` counts the probes taken from the points file. Errors are medians of absolute
    relative errors.
    """

    endpoint: Endpoint
    profile: Profile
    fit: Fit
    points: tuple[Point, ...]
    held_out: tuple[Point, ...]
    skipped: tuple[str, ...]
    wall_s: float
    resumed: int = 0

    @property
    def step_time(self) -> StepTime:
        """The fitted law."""
        return self.profile.step_time

    def residuals(self) -> list[tuple[Point, float]]:
        """Each fitted point with its relative error, (predicted - measured) / measured."""
        return [(p, self.fit.error(p)) for p in self.points]

    @property
    def held_out_error(self) -> float | None:
        """Median relative error on points the fit did not see; None when none was taken."""
        errors = [abs(self.fit.error(p)) for p in self.held_out]
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
    points_path: str | Path | None = None,
    max_drift: float = MAX_DRIFT,
    clock: Clock = time.perf_counter,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    rng: np.random.Generator | None = None,
    today: dt.date | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_note: Callable[[str], None] = lambda _: None,
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
        points_path: a Parquet file that keeps each point as it is measured; points of the same
            config, engine, host and hardware in it are not measured again.
        max_drift: refuse to fit when the reference probe strays further from its median.
        clock: seconds, monotonic.
        sleep: waits some seconds, between tries of an engine that sheds load.
        rng: draws the prompts.
        today: the date of the measurement.
        on_progress: called after each probe.
        on_note: called with what the user should know, such as a damaged points file.

    Raises:
        ClusterError: the server is unreachable, overloaded, busy, or refuses a request, or the
            machine's speed changed too much for any law.
        EngineError: the server failed or died on the way.
        InputError: the budget allowed too few points to tell the coefficients apart, a limit
            is neither told by the server nor given, or the points file cannot be written.
    """
    start = clock()
    async with open_session(timeout_s=max(60.0, 4 * budget_s)) as session:
        endpoint = await describe(session, url, model=model, headers=headers)
        _check_idle(endpoint)
        context = _limit(
            "max_model_len", endpoint.max_model_len or max_model_len or config.engine.max_model_len
        )
        capacity = _limit("kv_capacity_tokens", endpoint.kv_capacity_tokens or kv_capacity_tokens)
        place = _place(config, hardware, host)
        sender = _Sender(
            session=session, endpoint=endpoint, headers=headers, clock=clock, sleep=sleep,
            rng=rng or np.random.default_rng(), deadline_s=start + budget_s,
        )  # fmt: skip
        campaign = Campaign(
            sender.send,
            config,
            limits_of(config, context, capacity),
            budget_s=budget_s,
            start_s=start,
            clock=clock,
            on_progress=on_progress,
            meter=PowerMeter() if config.gpu != "cpu" else PowerMeter(lambda: None),
        )
        kept = _points_file(points_path, config, endpoint, place, on_note)
        if kept is not None:
            campaign.resume(kept.runs)
            campaign.keep = kept.add
        await _carry_out(campaign, kept)
    _check_drift(campaign.drift, max_drift, kept)
    points, held_out = campaign.points(held_out=False), campaign.points(held_out=True)
    fit = fit_points(points, by_batch=True)
    skipped = tuple(campaign.skipped)
    provenance = Provenance(
        kind="measured",
        date=today or dt.datetime.now(tz=dt.UTC).date(),
        **place,
        engine=endpoint.engine,
        note=_note(held_out, fit, skipped, campaign.drift),
        points=len(points),
        tpot_error=fit.median_error(points, "decode"),
        ttft_error=fit.median_error(points, "prefill"),
        drift=campaign.drift,
    )
    profile = Profile(
        config=config,
        step_time=fit.law,
        step_time_95=(fit.low, fit.high),
        request_overhead_s=fit.overhead_s,
        kv_capacity_tokens=capacity,
        kv_block_tokens=endpoint.kv_block_tokens or 16,
        max_model_len=context,
        power_w=campaign.power_w,
        provenance=provenance,
        points=tuple(as_noun(p) for p in points),
    )
    wall_s = clock() - start
    return Measurement(
        endpoint, profile, fit, points, held_out, skipped, wall_s, campaign.resumed
    )  # fmt: skip


def _blocking(
    function: Callable[_P, Coroutine[Any, Any, Measurement]],
) -> Callable[_P, Measurement]:
    """The same function for callers without an event loop."""

    @functools.wraps(function)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> Measurement:
        return asyncio.run(function(*args, **kwargs))

    return run


measure_engine = _blocking(measure)


async def _carry_out(campaign: Campaign, kept: PointsFile | None) -> None:
    """Warm up and run; an engine that fails on the way leaves what was measured before."""
    try:
        await campaign.warm_up()
        await campaign.run()
    except EngineError as error:
        raise EngineError(f"{error}{_safe(kept)}") from error
    except ClusterError as error:
        raise ClusterError(f"{error}{_safe(kept)}") from error


def _safe(kept: PointsFile | None) -> str:
    if kept is None or not kept.runs:
        return ""
    return (
        f"; {len(kept.runs)} measured probes are safe in {kept.path}: run the same command to go "
        "on from there"
    )


@dataclass
class _Sender:
    """Sends the requests of a probe and checks that they were answered as asked."""

    session: aiohttp.ClientSession
    endpoint: Endpoint
    headers: Mapping[str, str] | None
    clock: Clock
    sleep: Callable[[float], Awaitable[None]]
    rng: np.random.Generator
    deadline_s: float

    async def send(self, probe: Probe) -> list[RequestTiming]:
        """All requests of a probe, again after a pause while the engine sheds load."""
        pause_s = FIRST_BACKOFF_S
        while True:
            clients = (self._client(probe, client) for client in range(probe.sequences))
            answers = await asyncio.gather(*clients)
            timings = [timing for found in answers for timing in found]
            shed = any(t.outcome is Outcome.OVERLOADED for t in timings)
            if not shed or self.clock() + pause_s > self.deadline_s:
                break
            await self.sleep(pause_s)
            pause_s = min(2 * pause_s, MAX_BACKOFF_S)
        for client, found in enumerate(answers):
            for timing in found:
                raise_for(timing, self.endpoint.url)
                self._check_lengths(timing, probe.input_tokens, probe.output_of(client))
        return timings

    async def _client(self, probe: Probe, client: int) -> list[RequestTiming]:
        """One client of a probe: its requests one after the other, until one fails."""
        found: list[RequestTiming] = []
        for _ in range(probe.rounds):
            timing = await stream_completion(
                self.session,
                self.endpoint.url,
                self.endpoint.model,
                random_token_ids(self.rng, probe.input_tokens),
                probe.output_of(client),
                exact_length=True,
                headers=self.headers,
                clock=self.clock,
            )
            found.append(timing)
            if timing.outcome is not Outcome.OK:
                break
        return found

    def _check_lengths(self, timing: RequestTiming, inputs: int, outputs: int) -> None:
        found = (timing.input_tokens, timing.output_tokens)
        if timing.counted_by == "chunks" or found != (inputs, outputs):
            raise EngineError(
                f"{self.endpoint.url}: found {timing.input_tokens} input and "
                f"{timing.output_tokens} output tokens (by {timing.counted_by}), expected exactly "
                f"{inputs} and {outputs} by usage; measuring needs an "
                "engine that accepts token ids, ignore_eos and stream usage, as vLLM does"
            )


def _check_idle(endpoint: Endpoint) -> None:
    if endpoint.requests_in_flight:
        raise ClusterError(
            f"{endpoint.url}: busy with {endpoint.requests_in_flight} requests, which would spoil "
            "the times; measure an engine that nobody else uses"
        )


def _check_drift(drift: float | None, limit: float, kept: PointsFile | None) -> None:
    if drift is not None and drift > limit:
        raise ClusterError(
            "the machine's speed changed while it was measured: the same probe strayed "
            f"{drift:.0%} from its median, expected at most {limit:.0%}; measure while nothing "
            "else runs"
            + (f"; the points are in {kept.path}: remove it to start anew" if kept else "")
        )


def _points_file(
    path: str | Path | None,
    config: ReplicaConfig,
    endpoint: Endpoint,
    place: Mapping[str, str | None],
    on_note: Callable[[str], None],
) -> PointsFile | None:
    if path is None:
        return None
    identity = Identity(
        config=config.model_dump_json(),
        engine=endpoint.engine,
        host=place["host"] or "",
        hardware=place["hardware"] or "",
    )
    kept = PointsFile(path, identity)
    if kept.note:
        on_note(kept.note)
    if kept.runs:
        on_note(f"{path}: going on from {len(kept.runs)} probes measured before")
    return kept


def _limit(name: str, value: int | None) -> int:
    if value is None:
        raise InputError(f"the server does not tell {name}; give it as an argument")
    return value


def _place(config: ReplicaConfig, hardware: str | None, host: str | None) -> dict[str, str | None]:
    """Host, hardware and driver of a provenance: what was given, or what this machine has."""
    host = host or platform.node()
    if hardware is not None:
        return {"host": host, "hardware": hardware, "driver": None}
    found = find_hardware()
    if found.gpus and config.gpu != "cpu":
        return {"host": host, "hardware": found.gpus[0].name, "driver": found.driver}
    return {"host": host, "hardware": found.cpu.name, "driver": None}


def _note(
    held_out: Sequence[Point], fit: Fit, skipped: Sequence[str], drift: float | None
) -> str | None:
    parts = [f"held-out {p.kind} error {abs(fit.error(p)):.1%}" for p in held_out]
    parts += [f"{len(skipped)} probes skipped"] if skipped else []
    if drift is not None and drift > DRIFT_LIMIT:
        parts.append(f"the machine drifted: the reference probe strayed {drift:.0%}")
    return "; ".join(parts) or None
