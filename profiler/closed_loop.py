"""What a benchmark with a fixed number of clients measures, from the step-time law.

Each of c clients sends its next request when the last one is answered. With n of them decoding
(c, or what the KV cache holds), a request of i input and o output tokens sees, besides its own
work, the prompts of the n - 1 others once. Clients that ask all at once wait for half of them
before their own first token; clients out of step meet all of them between two of their tokens:

    TPOT = law(0, n, n (i + o/2)) + (n - 1) (1 - k/2) p / o          p = per_prefill_token i
    TTFT = request + law(0, n, ...) + p + (n - 1) k/2 p + (c - n)/n o TPOT

with k the share of clients in step, which depends on the engine's scheduler and on how the load
was made, and the last term the wait for a place. Throughput follows by Little's law.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Load:
    """Closed-loop runs: arrays of one shape ``[runs]``."""

    clients: Floats
    input_tokens: Floats
    output_tokens: Floats
    kv_capacity_tokens: Floats


@dataclass(frozen=True)
class Seen:
    """Mean latencies (seconds) and output tokens per second: arrays ``[runs]``."""

    tpot_s: Floats
    ttft_s: Floats
    throughput_tps: Floats


def closed_loop(law: Floats, load: Load, request_s: Floats, in_step: Floats) -> Seen:
    """The steady state of each run.

    Args:
        law: ``[runs, 4]``, the coefficients of `StepTime` in its order.
        load: the runs.
        request_s: ``[runs]``, seconds an engine adds to a request before its first step.
        in_step: ``[runs]``, share of clients that ask all at once.
    """
    base, per_prefill, per_sequence, per_kv = law.T
    context = load.input_tokens + load.output_tokens / 2
    held = np.maximum(load.kv_capacity_tokens / context, 1.0)
    n = np.minimum(load.clients, held)
    decode = base + n * (per_sequence + per_kv * context)
    prompt = per_prefill * load.input_tokens
    others = np.maximum(n - 1, 0.0) * prompt
    tpot = decode + others * (1 - in_step / 2) / load.output_tokens
    wait = (load.clients - n) / n * load.output_tokens * tpot
    ttft = request_s + decode + prompt + others * in_step / 2 + wait
    return Seen(tpot, ttft, throughput_tps(load, tpot, ttft))


def throughput_tps(load: Load, tpot_s: Floats, ttft_s: Floats) -> Floats:
    """Output tokens per second of so many clients with these latencies (Little's law)."""
    tokens: Floats = load.clients * load.output_tokens
    seconds: Floats = ttft_s + tpot_s * (load.output_tokens - 1)
    return tokens / seconds
