"""Profiles by arithmetic: what a GPU type's catalog numbers say a model must cost on it.

    base          = weights / bandwidth + all-reduce latency + step overhead
    prefill token = 2 * active parameters / FLOP/s + its all-reduce bytes / link
    sequence      = the same: one decoded token passes through the same matrices
    KV token      = KV bytes per token / bandwidth

each over the tensor-parallel group. Memory- and compute-bound work is added, not overlapped,
which is what the linear step-time law can express; the efficiencies make up for it on average.
"""

from __future__ import annotations

from dataclasses import dataclass

from profiler.core import (
    EngineOptions,
    GpuType,
    ModelSpec,
    Profile,
    Provenance,
    ReplicaConfig,
    StepTime,
)

GB = 1e9
ACTIVATION_BYTES = 2  # activations travel between GPUs as 16-bit numbers
RUNTIME_GB = 1.5  # CUDA context, graphs and workspace that vLLM keeps on each GPU
MIN_KV_TOKENS = 1024  # an engine that cannot hold one such request is of no use


@dataclass(frozen=True)
class Efficiency:
    """The shares of a GPU's peak that inference reaches, and the fixed cost of a step.

    The defaults were chosen so that Llama-3.1-8B at 1024 input and 256 output tokens, TTFT 2 s,
    TPOT 60 ms comes within 17 % of the rates AIConfigurator's measurement database gives:
    4.46 (L40S), 8.98 (A100), 24.6 (H100) and 27.3 (H200) requests/s per GPU.
    """

    compute: float = 0.8
    bandwidth: float = 0.85
    link: float = 0.7
    step_overhead_s: float = 1e-3
    allreduce_latency_s: float = 8e-6


DEFAULT_EFFICIENCY = Efficiency()


@dataclass(frozen=True)
class DoesNotFit:
    """A model that a replica config cannot hold, and why."""

    config: ReplicaConfig
    needed_gb: float
    usable_gb: float

    @property
    def reason(self) -> str:
        """One line for tables and errors."""
        gpus = f"{self.config.tensor_parallel} x {self.config.gpu}"
        return f"does not fit: needs {self.needed_gb:.0f} GB, {gpus} offers {self.usable_gb:.0f} GB"


def default_engine(gpu: GpuType) -> EngineOptions:
    """The scheduler limits vLLM V1's server picks for a GPU: larger ones from 70 GiB, A100 apart.

    Source: ``EngineArgs.get_batch_defaults`` in vLLM. On a CPU ours are smaller: a prompt token
    takes milliseconds there, and a step of thousands would hold up every answer under way.
    """
    if gpu.vendor == "cpu":
        return EngineOptions(max_num_seqs=32, max_num_batched_tokens=512)
    if gpu.memory_gb >= 75 and not gpu.name.startswith("A100"):
        return EngineOptions(max_num_seqs=1024, max_num_batched_tokens=8192)
    return EngineOptions()


def roofline_profile(
    model: ModelSpec,
    gpu: GpuType,
    tensor_parallel: int = 1,
    engine: EngineOptions | None = None,
    efficiency: Efficiency = DEFAULT_EFFICIENCY,
) -> Profile | DoesNotFit:
    """The profile of ``model`` on some GPUs of one type, or why it cannot run there."""
    engine = engine or default_engine(gpu)
    kv_tokens = kv_capacity_tokens(model, gpu, tensor_parallel, engine)
    longest = min(model.context_tokens, engine.max_model_len or kv_tokens, kv_tokens)
    config = ReplicaConfig(
        model=model.name,
        gpu=gpu.name,
        tensor_parallel=tensor_parallel,
        # vLLM must be told: by itself it tries the model's whole context, and refuses to start.
        engine=engine.model_copy(update={"max_model_len": max(1, longest)}),
    )
    if kv_tokens < MIN_KV_TOKENS:
        needed = model.weight_bytes + MIN_KV_TOKENS * model.kv_bytes_per_token
        return DoesNotFit(config, needed / GB, _usable_bytes(gpu, tensor_parallel, engine) / GB)
    return Profile(
        config=config,
        step_time=step_time(model, gpu, tensor_parallel, efficiency),
        kv_capacity_tokens=kv_tokens,
        max_model_len=longest,
        provenance=Provenance(
            kind="roofline",
            date=gpu.price.as_of,
            hardware=gpu.name,
            note=f"estimated: {efficiency.compute:.0%} of peak FLOP/s, "
            f"{efficiency.bandwidth:.0%} of bandwidth",
        ),
    )


def step_time(
    model: ModelSpec, gpu: GpuType, tensor_parallel: int, efficiency: Efficiency
) -> StepTime:
    """The step-time law from catalog numbers; see the module's head for the terms."""
    bandwidth = gpu.bandwidth_gb_per_s * GB * efficiency.bandwidth * tensor_parallel
    flops = gpu.fp16_tflop_per_s * 1e12 * efficiency.compute * tensor_parallel
    latency_s, link_s_per_token = _allreduce(model, gpu, tensor_parallel, efficiency)
    token_s = 2 * model.active_params / flops + link_s_per_token
    return StepTime(
        base_s=model.weight_bytes / bandwidth + efficiency.step_overhead_s + latency_s,
        per_prefill_token_s=token_s,
        per_sequence_s=token_s,
        per_kv_token_s=model.kv_bytes_per_token / bandwidth,
    )


def kv_capacity_tokens(
    model: ModelSpec, gpu: GpuType, tensor_parallel: int, engine: EngineOptions
) -> int:
    """Tokens of KV cache that the memory left beside the weights can hold (0 when none)."""
    # Fewer KV heads than GPUs: each GPU keeps a copy of a head, so the cache is not split further.
    copies = max(1.0, tensor_parallel / model.kv_heads)
    left = _usable_bytes(gpu, tensor_parallel, engine) - model.weight_bytes
    return max(0, int(left / (model.kv_bytes_per_token * copies)))


def _usable_bytes(gpu: GpuType, tensor_parallel: int, engine: EngineOptions) -> float:
    per_gpu = gpu.memory_gb * engine.gpu_memory_utilization - RUNTIME_GB
    return max(0.0, per_gpu) * GB * tensor_parallel


def _allreduce(
    model: ModelSpec, gpu: GpuType, tensor_parallel: int, efficiency: Efficiency
) -> tuple[float, float]:
    """Seconds of latency per step and per token spent in all-reduces: two in each layer.

    A ring moves 2 (k-1)/k of the data over each link (Patarasuk and Yuan, 2009).
    """
    if tensor_parallel == 1 or gpu.link_gb_per_s == 0:
        return 0.0, 0.0
    rounds = 2 * model.layers
    token_bytes = model.hidden_size * ACTIVATION_BYTES * 2 * (tensor_parallel - 1) / tensor_parallel
    return (
        rounds * efficiency.allreduce_latency_s,
        rounds * token_bytes / (gpu.link_gb_per_s * GB * efficiency.link),
    )
