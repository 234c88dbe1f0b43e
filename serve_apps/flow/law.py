"""What a step of an engine takes, in closed forms that cost under a microsecond."""

from __future__ import annotations

from profiler.core import Profile

MOST_PREFILL = 0.8
"""Share of an engine's time that prompts are taken to fill at most, where decoding goes on."""


class Law:
    """`StepTime` and the scheduler's limits of one `Profile`, as plain numbers.

    t = base + per_prefill * prompt tokens + per_sequence * n + per_kv * context tokens

    Where several gateways share the engines, each sees its own requests alone: it reckons that
    the others have as many there, and keeps to its part of the engine's limits.
    """

    __slots__ = (
        "base_s",
        "budget",
        "extra_s",
        "kv_tokens",
        "longest",
        "max_seqs",
        "overhead_s",
        "per_kv_s",
        "per_prefill_s",
        "per_sequence_s",
    )

    def __init__(self, profile: Profile, gateways: int = 1) -> None:
        law, engine = profile.step_time, profile.config.engine
        self.base_s = law.base_s
        self.per_prefill_s = law.per_prefill_token_s
        self.per_sequence_s = law.per_sequence_s * gateways
        self.per_kv_s = law.per_kv_token_s * gateways
        self.extra_s = law.batch_extra_s
        self.overhead_s = profile.request_overhead_s
        self.budget = engine.max_num_batched_tokens
        most = min(engine.max_num_seqs, engine.max_num_batched_tokens)
        self.max_seqs = max(most // gateways, 1)
        self.kv_tokens = profile.kv_capacity_tokens / gateways
        self.longest = min(profile.max_model_len, profile.kv_capacity_tokens)

    def step_s(self, sequences: int, kv_tokens: float) -> float:
        """A step that only decodes."""
        time_s = self.base_s + self.per_sequence_s * sequences + self.per_kv_s * kv_tokens
        if self.extra_s:
            time_s += self.extra_s[min(sequences, len(self.extra_s) - 1)]
        return time_s

    def prefill_s(self, tokens: float, sequences: int, step_s: float) -> float:
        """Until so many prompt tokens are computed beside sequences that decode.

        Chunked prefill: each step takes as many as its budget leaves (`step_s` without them).
        """
        chunk = max(self.budget - sequences, 1)
        return -(-tokens // chunk) * step_s + self.per_prefill_s * tokens

    def lone_ttft_s(self, prefill_tokens: float) -> float:
        """The time to first token of a request that has the engine to itself."""
        steps = -(
            -prefill_tokens // self.budget
        )  # `prefill_s`, of which several are asked a request
        return self.overhead_s + (steps * self.base_s + self.per_prefill_s * prefill_tokens)

    def lone_tpot_s(self, context_tokens: float) -> float:
        """The time per output token of a request that has the engine to itself."""
        return self.step_s(1, context_tokens)

    def work_s(self, prefill_tokens: float, output_tokens: float) -> float:
        """Replica-seconds of a request in the fullest batch of its kind, whatever its latency."""
        context = prefill_tokens + output_tokens / 2
        batch = max(1.0, min(self.max_seqs, self.kv_tokens / max(context, 1.0)))
        each_s = self.base_s / batch + self.per_sequence_s + self.per_kv_s * context
        return self.per_prefill_s * prefill_tokens + output_tokens * each_s
