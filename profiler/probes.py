"""What to try on an engine to learn its step-time law, and what each try shows.

A batch is equal requests sent at once. While all of them decode, it shows the mean decode step,
``a + c*N + d*S`` with S the contexts half-way through that window. A batch of one also shows the
time of its prefill steps, ``steps*a + b*P``, and the overhead of a request, as its time to first
token. A loop is a number of clients, each sending its next request when the last one ended: its
steps prefill and decode together, as they do in service.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median

from profiler.core import ReplicaConfig
from profiler.step_fit import Point
from profiler.timing import RequestTiming

DECODE_STEPS = 24
"""Steady decode steps in one probe: enough for the mean to outweigh one late step."""

LOOP_TOKENS = 12
"""The shortest answer in a loop: prompts and answers then share its time."""

TRIMMED_SHARE = 0.1
"""The share of gaps left out of a mean at either end."""

WIDTHS = (1, 3, 6, 12, 24, 48, 96, 192)
"""Batch sizes to try. Powers of two would flatter: kernels are tiled for them, and an engine in
service runs at any size."""

WIDEST = 256


@dataclass(frozen=True)
class Probe:
    """One thing to try: ``sequences`` equal requests at once, or as many clients in a loop.

    ``rounds`` above 1 makes it a loop of so many requests per client.
    """

    sequences: int
    input_tokens: int
    output_tokens: int
    held_out: bool = False
    rounds: int = 1

    def __str__(self) -> str:
        times = f"{self.rounds} rounds of " if self.rounds > 1 else ""
        return f"{times}{self.sequences} x {self.input_tokens}+{self.output_tokens} tokens"

    @property
    def requests(self) -> int:
        """How many it sends."""
        return self.sequences * self.rounds

    def output_of(self, client: int) -> int:
        """Tokens a client asks for: in a loop they differ, so that requests end one by one."""
        if self.rounds == 1:
            return self.output_tokens
        return self.output_tokens + client * 5 % max(2, self.output_tokens)


@dataclass(frozen=True)
class Limits:
    """What an engine admits: longest sequence, tokens in all, sequences and tokens per step."""

    max_model_len: int
    kv_capacity_tokens: int
    max_num_seqs: int
    max_num_batched_tokens: int

    @property
    def most(self) -> int:
        """The most sequences that decode in one step."""
        return min(self.max_num_seqs, self.max_num_batched_tokens)

    @property
    def contexts(self) -> tuple[int, int, int]:
        """A short, a middle and a long prompt."""
        longest = min(self.max_model_len, self.kv_capacity_tokens) - 1
        short, middle, long = (
            max(1, min(n, longest // d)) for n, d in ((32, 8), (256, 4), (768, 2))
        )
        return short, middle, long

    def admit(self, probe: Probe) -> bool:
        """Whether all of a probe fits at once."""
        tokens = probe.input_tokens + max(
            probe.output_of(client) for client in range(probe.sequences)
        )
        longest = min(self.max_model_len, self.kv_capacity_tokens) - 1
        return (
            probe.sequences <= self.most
            and tokens <= longest
            and probe.sequences * tokens <= self.kv_capacity_tokens
        )

    def batch(self, sequences: int, context: int, *, held_out: bool = False) -> Probe:
        """Equal requests, long enough that all decode together for a while."""
        # The requests of a batch start as many steps apart as their prompts need.
        waves = -(-sequences * context // self.max_num_batched_tokens)
        return Probe(sequences, context, DECODE_STEPS + waves + 2, held_out)


def limits_of(config: ReplicaConfig, max_model_len: int, kv_capacity_tokens: int) -> Limits:
    """The limits of a replica config on a server that told the last two."""
    engine = config.engine
    return Limits(
        max_model_len, kv_capacity_tokens, engine.max_num_seqs, engine.max_num_batched_tokens
    )


def design(limits: Limits) -> list[Probe]:
    """The probes in order of what they tell, inside the engine's limits.

    The first five already identify the law: three prompt lengths, and one, few and the most
    sequences. A loop comes next, then middle points, among them two that only check the fit.
    The first is the reference, cheap enough to be repeated.
    """
    short, middle, long = limits.contexts
    widths = [n for n in WIDTHS if n < 0.75 * limits.most or n == 1]
    widest = min(limits.most, WIDEST)
    few, half = min(3, widest), widths[len(widths) // 2]

    def loop(clients: int, context: int) -> Probe:
        return Probe(max(1, clients), max(1, context), LOOP_TOKENS, rounds=2)

    wanted = [
        limits.batch(1, short),
        limits.batch(1, middle),
        limits.batch(few, short),
        limits.batch(widest, short),
        limits.batch(1, long),
        loop(min(6, widest), 2 * short),
        limits.batch(half, short),
        limits.batch(few, middle),
        limits.batch(1, (middle + long) // 2, held_out=True),
        limits.batch(min(5, widest), (short + middle) // 2, held_out=True),
        loop(min(14, widest), short),
        loop(few, middle // 2),
        loop(3 * widest // 4, short),
        *(limits.batch(n, short) for n in reversed(widths)),
    ]
    return [p for p in dict.fromkeys(wanted) if limits.admit(p)]


def nearby(worst: Probe, done: Iterable[Probe], limits: Limits) -> Probe | None:
    """A batch not tried yet, as near as can be to one that the law fits badly; None when none is.

    Distance is in factors of the batch size and of the prompt length.
    """
    tried = {(p.sequences, p.input_tokens) for p in done if p.rounds == 1}
    short, middle, long = limits.contexts
    contexts = sorted({short, 2 * short, (short + middle) // 2, middle, (middle + long) // 2, long})
    widest = min(limits.most, WIDEST)
    widths = sorted({max(1, round(2 ** (k / 2))) for k in range(17)} | {widest})
    candidates = [
        limits.batch(n, context)
        for n in widths
        for context in contexts
        if n <= widest and (n, context) not in tried
    ]

    def distance(probe: Probe) -> float:
        return abs(math.log(probe.sequences / worst.sequences)) + abs(
            math.log(probe.input_tokens / worst.input_tokens)
        )

    return min(filter(limits.admit, candidates), key=distance, default=None)


def points_of(
    probe: Probe, timings: Sequence[RequestTiming], config: ReplicaConfig
) -> tuple[Point, ...]:
    """What a probe shows; nothing when the requests of a batch never all decoded."""
    if probe.rounds > 1:
        return (mixed_point(timings, config),)
    decode = decode_point(timings)
    if decode is None:
        return ()
    return (decode,) if len(timings) > 1 else (prefill_point(timings[0], config), decode)


def decode_point(timings: Sequence[RequestTiming]) -> Point | None:
    """The mean step while all requests of a batch decode; None when that never was.

    The mean is taken over the gaps between tokens of all requests, without the shortest and the
    longest tenth: one stall of the machine, or chunks that the network held up and then
    delivered together, would otherwise stand for the engine's own time.
    """
    opens = max(t.tokens[0][0] for t in timings)
    closes = min(t.tokens[-1][0] for t in timings)
    gaps: list[float] = []
    kv_tokens = 0.0
    for timing in timings:
        inside = [(at, count) for at, count in timing.tokens if opens <= at <= closes]
        if len(inside) < 2:
            return None
        gaps += [(s - r) / (n - m) for (r, m), (s, n) in pairwise(inside)]
        # Making token k of an answer attends to the prompt and the k - 1 tokens before it, and
        # the steps of the window make tokens first + 1 .. last.
        first, last = inside[0][1], inside[-1][1]
        kv_tokens += (timing.input_tokens or 0) + (first + last - 1) / 2
    mean_s = _trimmed_mean(gaps)
    return Point("decode", mean_s, sequences=len(timings), kv_tokens=kv_tokens)


def _trimmed_mean(values: Sequence[float]) -> float:
    cut = int(TRIMMED_SHARE * len(values))
    return fmean(sorted(values)[cut : len(values) - cut])


def prefill_point(timing: RequestTiming, config: ReplicaConfig) -> Point:
    """The prefill of a request that was alone in the engine."""
    tokens = timing.input_tokens or 0
    steps = max(1, -(-tokens // config.engine.max_num_batched_tokens))
    took_s = timing.tokens[0][0] - timing.sent_s
    return Point("prefill", took_s, steps=steps, prefill_tokens=tokens, overheads=1)


def mixed_point(timings: Sequence[RequestTiming], config: ReplicaConfig) -> Point:
    """A whole loop as one point: its steps, and all that was prefilled and decoded in them.

    The overhead of its first request alone is in its time: that of later ones passes while the
    engine works for others.
    """
    took_s = max(t.tokens[-1][0] for t in timings) - min(t.sent_s for t in timings)
    inputs = [t.input_tokens or 0 for t in timings]
    outputs = [t.output_tokens for t in timings]
    # Decoding token k attends to the prompt and k - 1 tokens: summed over k = 2 .. o.
    kv_tokens = sum((o - 1) * (i + o / 2) for i, o in zip(inputs, outputs, strict=True))
    return Point(
        "mixed",
        took_s,
        steps=_steps_seen(timings) + _unseen_chunks(inputs, config),
        prefill_tokens=sum(inputs),
        sequences=sum(outputs) - len(outputs),
        kv_tokens=kv_tokens,
        overheads=1,
    )


def _steps_seen(timings: Sequence[RequestTiming]) -> int:
    """Engine steps that brought a token: a request gets one per step, and all at about one time."""
    events = sorted((at, r) for r, t in enumerate(timings) for at, _ in t.tokens)
    gaps = [b - a for t in timings for (a, _), (b, _) in pairwise(t.tokens)]
    pause_s = median(gaps) / 2 if gaps else 0.0
    steps, in_step, last_s = 0, set[int](), -math.inf
    for at, request in events:
        if request in in_step or at - last_s > pause_s:
            steps += 1
            in_step = set()
        in_step.add(request)
        last_s = at
    return steps


def _unseen_chunks(inputs: Sequence[int], config: ReplicaConfig) -> int:
    """Steps that brought no token: the first chunks of prompts longer than a step may hold."""
    first = inputs[0] if inputs else 0
    return max(0, -(-first // config.engine.max_num_batched_tokens) - 1)


def fold(repeats: Sequence[Point]) -> Point:
    """One point from its repeats, and how far apart their times were.

    It is the one with the median time, or the mean of the middle two, work and time alike: two
    runs of a loop need not take equal steps.
    """
    ordered = sorted(repeats, key=lambda p: p.time_s)
    times = [p.time_s for p in ordered]
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return Point(
        low.kind,
        median(times),
        round((low.steps + high.steps) / 2),
        low.prefill_tokens,
        low.sequences,
        (low.kv_tokens + high.kv_tokens) / 2,
        low.overheads,
        spread=(times[-1] - times[0]) / median(times),
        repeats=len(times),
    )
