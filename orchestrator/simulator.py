"""Replicas simulated one engine step at a time: what requests would wait, told from a profile.

The scheduler follows vLLM V1 (``vllm/v1/core/sched/scheduler.py``). Each step has a token budget.
Running requests come first, in order of admission: one token for each that decodes, then the rest
of an unfinished prompt. What budget is left admits waiting requests in order of arrival, their
prompts cut to fit. KV blocks are taken as tokens are computed; a running request that finds none
free evicts the newest running one, which later computes all its tokens again. A step lasts what
the profile's `StepTime` says, and tokens appear at its end.

This is the plain form, meant to be read and trusted: every step is a turn of one loop.
Not modelled: prefix caching, speculative decoding, time spent outside the engine's steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from profiler.core import Profile, Slo
from profiler.errors import InputError

BLOCK_TOKENS = 16
"""Tokens in one KV block: vLLM's default on GPUs."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Arrivals(Protocol):
    """Requests in order of arrival; a trace is one."""

    @property
    def arrival_s(self) -> Floats:
        """Seconds from the start, never decreasing, one per request."""

    @property
    def input_tokens(self) -> Ints:
        """Prompt tokens, at least 1."""

    @property
    def output_tokens(self) -> Ints:
        """Tokens to generate, at least 1."""


@dataclass(frozen=True)
class Step:
    """What one engine iteration did, for observers."""

    replica: int
    start_s: float
    duration_s: float
    prefill_tokens: int
    decodes: int
    kv_tokens: int
    running: int
    kv_blocks: int


StepObserver = Callable[[Step], None]


@dataclass(frozen=True)
class Timings:
    """When each request was answered; all arrays have one entry per arrival, in trace order.

    A rejected request, which no replica could ever hold, has infinite times, so it counts
    against every percentile and every target.
    """

    arrival_s: Floats
    first_token_s: Floats
    finish_s: Floats
    output_tokens: Ints
    rejected: NDArray[np.bool_]
    replica: Ints = field(repr=False)
    preemptions: Ints = field(repr=False)

    @property
    def ttft_s(self) -> Floats:
        """Arrival to first token."""
        return self.first_token_s - self.arrival_s

    @property
    def tpot_s(self) -> Floats:
        """(last token - first token) / (output tokens - 1); NaN where one token was asked."""
        gaps = np.where(self.output_tokens > 1, self.output_tokens - 1, np.nan)
        decoding = np.full_like(self.finish_s, np.inf)
        np.subtract(self.finish_s, self.first_token_s, out=decoding, where=~self.rejected)
        return np.asarray(decoding / gaps, dtype=np.float64)

    @property
    def e2e_s(self) -> Floats:
        """Arrival to last token."""
        return self.finish_s - self.arrival_s


def attainment(timings: Timings, slo: Slo) -> float:
    """The share of all arrivals, rejected ones included, that meet both targets.

    A one-token answer has no TPOT and is judged by TTFT alone. No arrivals: 1.0.
    """
    if len(timings.arrival_s) == 0:
        return 1.0
    tpot_met = np.isnan(timings.tpot_s) | (timings.tpot_s <= slo.tpot_s)
    return float(np.mean((timings.ttft_s <= slo.ttft_s) & tpot_met & ~timings.rejected))


def percentile(values: Floats, percent: float) -> float:
    """The smallest value that ``percent`` % of the requests do not exceed; NaNs are left out.

    Never interpolates, so a rejected request (infinite) cannot blur into a finite figure.
    NaN when nothing is left.
    """
    known = values[~np.isnan(values)]
    return float(np.percentile(known, percent, method="inverted_cdf")) if len(known) else np.nan


def simulate_replica(
    profile: Profile,
    arrival_s: ArrayLike,
    input_tokens: ArrayLike,
    output_tokens: ArrayLike,
    *,
    block_tokens: int = BLOCK_TOKENS,
    on_step: StepObserver | None = None,
) -> Timings:
    """Answer all requests with one replica.

    Raises:
        InputError: arrays differ in length, arrivals go back in time, or a size is below 1.
    """
    return simulate_group(
        profile,
        1,
        arrival_s,
        input_tokens,
        output_tokens,
        block_tokens=block_tokens,
        on_step=on_step,
    )


def simulate_trace(
    profile: Profile,
    trace: Arrivals,
    *,
    replicas: int = 1,
    block_tokens: int = BLOCK_TOKENS,
    on_step: StepObserver | None = None,
) -> Timings:
    """`simulate_group` for a trace object.

    Raises:
        InputError: as `simulate_replica`, or ``replicas`` is below 1.
    """
    return simulate_group(
        profile,
        replicas,
        trace.arrival_s,
        trace.input_tokens,
        trace.output_tokens,
        block_tokens=block_tokens,
        on_step=on_step,
    )


def simulate_group(
    profile: Profile,
    replicas: int,
    arrival_s: ArrayLike,
    input_tokens: ArrayLike,
    output_tokens: ArrayLike,
    *,
    block_tokens: int = BLOCK_TOKENS,
    on_step: StepObserver | None = None,
) -> Timings:
    """Answer all requests with equal replicas; each goes to the one with fewest in flight.

    Raises:
        InputError: as `simulate_replica`, or ``replicas`` is below 1.
    """
    if replicas < 1:
        raise InputError(f"found {replicas} replicas to simulate, expected at least 1")
    arrivals, inputs, outputs = _checked(arrival_s, input_tokens, output_tokens)
    fleet = [Replica(profile, i, block_tokens, on_step) for i in range(replicas)]
    requests = [
        Request(*row)
        for row in zip(arrivals.tolist(), inputs.tolist(), outputs.tolist(), strict=True)
    ]
    for request in requests:
        if not fleet[0].can_ever_hold(request):
            continue
        for replica in fleet:
            replica.advance(request.arrival_s)
        chosen = min(fleet, key=lambda r: (r.in_flight(request.arrival_s), r.index))
        chosen.submit(request)
    for replica in fleet:
        replica.advance(float("inf"))
    return _timings(arrivals, outputs, requests)


class Request:
    """One request on its way through a replica."""

    __slots__ = (
        "arrival_s", "computed", "finish_s", "first_token_s", "generated", "input_tokens",
        "output_tokens", "preemptions", "replica",
    )  # fmt: skip

    def __init__(self, arrival_s: float, input_tokens: int, output_tokens: int) -> None:
        self.arrival_s = arrival_s
        self.input_tokens = input_tokens
        self.output_tokens = output_tokens
        self.computed = 0  # tokens whose keys and values are in the cache
        self.generated = 0
        self.first_token_s = float("inf")
        self.finish_s = float("inf")
        self.preemptions = 0
        self.replica = -1

    @property
    def tokens(self) -> int:
        """Prompt and answer so far: what must be computed before the next token appears."""
        return self.input_tokens + self.generated


class Replica:
    """One engine: a queue, a batch, KV blocks and a clock that moves by steps."""

    def __init__(
        self, profile: Profile, index: int, block_tokens: int, on_step: StepObserver | None
    ) -> None:
        self.index = index
        self.clock_s = 0.0
        self._step_time = profile.step_time
        self._limits = profile.config.engine
        self._max_model_len = profile.max_model_len
        self._block_tokens = block_tokens
        self._total_blocks = profile.kv_capacity_tokens // block_tokens
        self._free_blocks = self._total_blocks
        self._waiting: deque[Request] = deque()
        self._running: list[Request] = []
        self._finished_last = 0
        self._on_step = on_step

    def can_ever_hold(self, request: Request) -> bool:
        """Whether the whole request fits the context length and the empty KV cache."""
        tokens = request.input_tokens + request.output_tokens
        return tokens <= self._max_model_len and self._blocks(tokens) <= self._total_blocks

    def in_flight(self, at_s: float) -> int:
        """Requests accepted and not finished at a time not before the last step's start."""
        finishing = self._finished_last if self.clock_s > at_s else 0
        return len(self._waiting) + len(self._running) + finishing

    def submit(self, request: Request) -> None:
        """Put a request at the end of the queue; an idle replica wakes at its arrival."""
        if not self._waiting and not self._running:
            self.clock_s = max(self.clock_s, request.arrival_s)
        request.replica = self.index
        self._waiting.append(request)

    def advance(self, until_s: float) -> None:
        """Take every step that starts before a time."""
        while self.clock_s < until_s and (self._running or self._waiting):
            self._step()

    def _step(self) -> None:
        scheduled = self._schedule()
        prefill = decodes = kv_tokens = 0
        for request, tokens in scheduled:
            if request.generated and tokens == 1 and request.computed + 1 == request.tokens:
                decodes += 1
                kv_tokens += request.tokens
            else:
                prefill += tokens
        start = self.clock_s
        self.clock_s = start + self._step_time(prefill, decodes, kv_tokens)
        if self._on_step is not None:
            self._on_step(
                Step(
                    self.index,
                    start,
                    self.clock_s - start,
                    prefill,
                    decodes,
                    kv_tokens,
                    len(self._running),
                    self._total_blocks - self._free_blocks,
                )
            )
        self._emit(scheduled)

    def _schedule(self) -> list[tuple[Request, int]]:
        """Which requests compute how many tokens in the next step."""
        scheduled: list[tuple[Request, int]] = []
        budget = self._limits.max_num_batched_tokens
        preempted = False
        position = 0
        while position < len(self._running) and budget > 0:
            request = self._running[position]
            tokens = min(request.tokens - request.computed, budget)
            while not self._grow(request, tokens):
                preempted = True
                if self._preempt_newest() is request:
                    break
            else:
                scheduled.append((request, tokens))
                budget -= tokens
            position += 1
        if not preempted:
            self._admit(scheduled, budget)
        return scheduled

    def _admit(self, scheduled: list[tuple[Request, int]], budget: int) -> None:
        while budget > 0 and self._waiting and len(self._running) < self._limits.max_num_seqs:
            request = self._waiting[0]
            # All its tokens must find room now, though only this chunk takes it: otherwise long
            # prompts would be let in on the size of their first chunk and evict each other.
            if self._blocks(request.tokens) > self._free_blocks:
                break
            self._waiting.popleft()
            self._running.append(request)
            tokens = min(request.tokens, budget)
            self._grow(request, tokens)
            scheduled.append((request, tokens))
            budget -= tokens

    def _emit(self, scheduled: Sequence[tuple[Request, int]]) -> None:
        finished = 0
        for request, tokens in scheduled:
            request.computed += tokens
            if request.computed < request.tokens:
                continue
            request.generated += 1
            if request.generated == 1:
                request.first_token_s = self.clock_s
            if request.generated == request.output_tokens:
                request.finish_s = self.clock_s
                self._free_blocks += self._blocks(request.computed)
                finished += 1
        if finished:
            self._running = [r for r in self._running if r.generated < r.output_tokens]
        self._finished_last = finished

    def _grow(self, request: Request, tokens: int) -> bool:
        needed = self._blocks(request.computed + tokens) - self._blocks(request.computed)
        if needed > self._free_blocks:
            return False
        self._free_blocks -= needed
        return True

    def _preempt_newest(self) -> Request:
        victim = self._running.pop()
        self._free_blocks += self._blocks(victim.computed)
        victim.computed = 0
        victim.preemptions += 1
        self._waiting.appendleft(victim)
        return victim

    def _blocks(self, tokens: int) -> int:
        return -(-tokens // self._block_tokens)


def _checked(
    arrival_s: ArrayLike, input_tokens: ArrayLike, output_tokens: ArrayLike
) -> tuple[Floats, Ints, Ints]:
    arrivals = np.asarray(arrival_s, dtype=np.float64)
    inputs = np.asarray(input_tokens, dtype=np.int64)
    outputs = np.asarray(output_tokens, dtype=np.int64)
    if not len(arrivals) == len(inputs) == len(outputs):
        raise InputError(
            f"found {len(arrivals)} arrivals, {len(inputs)} input and {len(outputs)} output "
            "sizes, expected one of each per request"
        )
    late = np.flatnonzero(~(np.diff(arrivals, prepend=0.0) >= 0) | ~np.isfinite(arrivals))
    if len(late):
        raise InputError(
            f"request {late[0]}: found arrival {arrivals[late[0]]} s, expected a time not "
            "before the one ahead of it; sort the trace by arrival"
        )
    empty = np.flatnonzero((inputs < 1) | (outputs < 1))
    if len(empty):
        i = empty[0]
        raise InputError(
            f"request {i}: found {inputs[i]} input and {outputs[i]} output tokens, "
            "expected at least 1 of each"
        )
    return arrivals, inputs, outputs


def _timings(arrivals: Floats, outputs: Ints, requests: Sequence[Request]) -> Timings:
    return Timings(
        arrival_s=arrivals,
        first_token_s=np.array([r.first_token_s for r in requests], dtype=np.float64),
        finish_s=np.array([r.finish_s for r in requests], dtype=np.float64),
        output_tokens=outputs,
        rejected=np.array([r.replica < 0 for r in requests], dtype=np.bool_),
        replica=np.array([r.replica for r in requests], dtype=np.int64),
        preemptions=np.array([r.preemptions for r in requests], dtype=np.int64),
    )
