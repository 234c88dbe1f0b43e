"""What to try on an engine to learn its step-time law, and what each try shows.

A probe is a batch of equal requests. Once all of them decode, it shows the mean decode step,
``a + c*N + d*S`` with S the contexts half-way through that window. A probe of one request also
shows the time of its prefill steps, ``steps*a + b*P``, as its time to first token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from profiler.core import ReplicaConfig
from profiler.step_fit import Point
from profiler.timing import RequestTiming

DECODE_STEPS = 24
"""Steady decode steps in one probe: enough for the mean to outweigh one late step."""

TRIMMED_SHARE = 0.1
"""The share of gaps left out of a mean at either end."""


@dataclass(frozen=True)
class Probe:
    """One thing to try: ``sequences`` equal requests at once."""

    sequences: int
    input_tokens: int
    output_tokens: int
    held_out: bool = False

    def __str__(self) -> str:
        return f"{self.sequences} x {self.input_tokens}+{self.output_tokens} tokens"


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

    The mean is taken over the gaps between tokens of all requests, without the shortest and the
    longest tenth: one stall of the machine, or chunks that the network held up and then
    delivered together, would otherwise stand for the engine's own time.
    """
    from scipy.stats import trim_mean

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
    mean_s = float(trim_mean(gaps, TRIMMED_SHARE))
    return Point("decode", mean_s, sequences=len(timings), kv_tokens=kv_tokens)


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
