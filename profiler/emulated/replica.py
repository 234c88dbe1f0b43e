"""One simulated engine: vLLM V1's scheduler, taken a step at a time.

Each step has a token budget (``vllm/v1/core/sched/scheduler.py``). Running requests come first,
in order of admission: one token for each that decodes, then the rest of an unfinished prompt.
What budget is left admits waiting requests in order of arrival, their prompts cut to fit. KV
blocks are taken as tokens are computed; a running request that finds none free evicts the newest
running one, which later computes all its tokens again. A step lasts what the profile's `StepTime`
says, and tokens appear at its end.

Prompt tokens that a prefix cache holds need no computing, whenever their request is admitted. They
are told with the request, and take blocks of their own as if no other request shared them.

Not modelled: what a prefix cache keeps and drops, speculative decoding, time spent outside the
engine's steps.

The simulator takes whole steps (`Replica.advance`). The emulated engine, which lives in real time,
begins a step, waits, and ends it; both are the same code.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from profiler.core import Profile


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


class Request:
    """One request on its way through a replica."""

    __slots__ = (
        "arrival_s", "computed", "finish_s", "first_token_s", "generated", "input_tokens",
        "output_tokens", "preemptions", "prefix_hit_tokens", "replica",
    )  # fmt: skip

    def __init__(
        self, arrival_s: float, input_tokens: int, output_tokens: int, prefix_hit_tokens: int = 0
    ) -> None:
        self.arrival_s = arrival_s
        self.input_tokens = input_tokens
        self.output_tokens = output_tokens
        # The last token of a prompt is always computed: its logits give the first of the answer.
        self.prefix_hit_tokens = min(prefix_hit_tokens, input_tokens - 1)
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

    def __init__(self, profile: Profile, index: int, on_step: StepObserver | None) -> None:
        self.index = index
        self.clock_s = 0.0
        self._step_time = profile.step_time
        self._limits = profile.config.engine
        self._max_model_len = profile.max_model_len
        self._block_tokens = profile.kv_block_tokens
        self._total_blocks = profile.kv_capacity_tokens // profile.kv_block_tokens
        self._free_blocks = self._total_blocks
        self._waiting: deque[Request] = deque()
        self._running: list[Request] = []
        self._finished_last = 0
        self._on_step = on_step
        self._scheduled: list[tuple[Request, int]] | None = None
        self._leaving: list[Request] = []

    @property
    def running(self) -> int:
        """Requests in the batch."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

    @property
    def kv_usage(self) -> float:
        """Share of the KV blocks that are taken."""
        return 1 - self._free_blocks / self._total_blocks

    @property
    def longest_tokens(self) -> int:
        """Prompt and answer of the longest request that it can ever hold."""
        return min(self._max_model_len, self._total_blocks * self._block_tokens)

    @property
    def stepping(self) -> bool:
        """Whether a step was begun and not ended."""
        return self._scheduled is not None

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

    def cancel(self, request: Request) -> None:
        """Take a request out: at once where it waits, else with the end of the step under way."""
        if request in self._waiting:
            self._waiting.remove(request)
        elif self._scheduled is not None:
            self._leaving.append(request)
        else:
            self._drop(request)

    def advance(self, until_s: float) -> None:
        """Take every step that starts before a time."""
        while self.clock_s < until_s and (self._running or self._waiting):
            self.begin_step()
            self.end_step()

    def begin_step(self, factor: float = 1.0) -> None:
        """Begin a step at ``clock_s``, which moves to its end.

        ``factor`` makes the step longer than the profile says.
        """
        scheduled = self._scheduled = self._schedule()
        prefill = decodes = kv_tokens = 0
        for request, tokens in scheduled:
            if request.generated and tokens == 1 and request.computed + 1 == request.tokens:
                decodes += 1
                kv_tokens += request.tokens
            else:
                prefill += tokens
        start = self.clock_s
        self.clock_s = start + factor * self._step_time(prefill, decodes, kv_tokens)
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

    def end_step(self) -> list[Request]:
        """End the step that was begun; the requests that got a token, in order of admission."""
        scheduled, self._scheduled = self._scheduled, None
        assert scheduled is not None
        told = self._emit(scheduled)
        for request in self._leaving:
            if request in self._waiting:  # evicted by the step during which it left
                self._waiting.remove(request)
            else:
                self._drop(request)
        self._leaving.clear()
        return told

    def _drop(self, request: Request) -> None:
        if request in self._running:
            self._running.remove(request)
            self._free_blocks += self._blocks(request.computed)

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
            found = request.prefix_hit_tokens
            tokens = min(request.tokens - found, budget)
            self._grow(request, found + tokens)
            request.computed = found
            scheduled.append((request, tokens))
            budget -= tokens

    def _emit(self, scheduled: Sequence[tuple[Request, int]]) -> list[Request]:
        told = []
        finished = 0
        for request, tokens in scheduled:
            request.computed += tokens
            if request.computed < request.tokens:
                continue
            request.generated += 1
            told.append(request)
            if request.generated == 1:
                request.first_token_s = self.clock_s
            if request.generated == request.output_tokens:
                request.finish_s = self.clock_s
                self._free_blocks += self._blocks(request.computed)
                finished += 1
        if finished:
            self._running = [r for r in self._running if r.generated < r.output_tokens]
        self._finished_last = finished
        return told

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
