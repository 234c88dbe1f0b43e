"""Profiles by arithmetic: what a GPU type's catalog numbers say a model must cost on it.

    base          = weights / bandwidth + layers * overhead + all-reduce latency + step overhead
    prefill token = 2 * active parameters / FLOP/s + its all-reduce bytes / link
    sequence      = the same: one decoded token passes through the same matrices
    KV token      = KV bytes per token / bandwidth

each over the tensor-parallel group, at the shares of the peak that `profiler.efficiency` holds.
The linear step-time law sets three limits. Memory- and compute-bound work is added, not
overlapped. A prompt's attention, which grows with its square, is in the efficiencies on average.
And experts: the more sequences decode, the more of them are read, along a curve that levels off.
Where the number of sequences is known, the law is exact there; else it is the straight line that
is nearest to the curve, in relative terms, between 1 and 256 sequences. `benchmarks.silicon` says
what each of these costs.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from profiler.core import (
    BYTES_PER_VALUE,
    EngineOptions,
    GpuType,
    ModelSpec,
    Profile,
    Provenance,
    ReplicaConfig,
    StepTime,
)
from profiler.efficiency import Calibrated, Efficiency, calibrated

GB = 1e9
ACTIVATION_BYTES = 2  # activations travel between GPUs as 16-bit numbers
RUNTIME_GB = 1.5  # CUDA context, graphs and workspace that vLLM keeps on each GPU
MIN_KV_TOKENS = 1024  # an engine that cannot hold one such request is of no use
BATCHES = tuple(2**i for i in range(9))  # sequences over which a line stands for the experts' curve


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
    efficiency: Efficiency | None = None,
) -> Profile | DoesNotFit:
    """The profile of ``model`` on some GPUs of one type, or why it cannot run there.

    ``efficiency`` defaults to the calibrated one of the GPU's generation, whose errors on held-out
    runs the provenance carries.
    """
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
    known = calibrated(gpu) if efficiency is None else Calibrated("given", efficiency, None)
    return Profile(
        config=config,
        step_time=step_time(model, gpu, tensor_parallel, known.efficiency),
        kv_capacity_tokens=kv_tokens,
        max_model_len=longest,
        provenance=_provenance(gpu, known),
    )


def _provenance(gpu: GpuType, known: Calibrated) -> Provenance:
    share, errors = known.efficiency, known.errors
    note = f"estimated: {share.compute:.0%} of peak FLOP/s, {share.bandwidth:.0%} of bandwidth"
    if errors is not None:
        note += f"; {known.generation} figures, median errors on {errors.rows} runs not fitted to"
    return Provenance(
        kind="roofline",
        date=gpu.price.as_of,
        hardware=gpu.name,
        note=note,
        tpot_error=errors.tpot if errors else None,
        ttft_error=errors.ttft if errors else None,
    )


def step_time(
    model: ModelSpec,
    gpu: GpuType,
    tensor_parallel: int,
    efficiency: Efficiency,
    sequences: float | None = None,
) -> StepTime:
    """The step-time law from catalog numbers; see the module's head for the terms.

    With ``sequences``, the law of a model with experts is exact when so many decode.
    """
    base, per_prefill, per_sequence, per_kv = coefficients(
        model, gpu, tensor_parallel, efficiency, sequences
    )
    return StepTime(
        base_s=base,
        per_prefill_token_s=per_prefill,
        per_sequence_s=per_sequence,
        per_kv_token_s=per_kv,
    )


def coefficients(
    model: ModelSpec,
    gpu: GpuType,
    tensor_parallel: int,
    efficiency: Efficiency,
    sequences: float | None = None,
) -> tuple[float, float, float, float]:
    """The four coefficients of `step_time`, in the order of its fields; for a fit, which is hot."""
    bandwidth = gpu.bandwidth_gb_per_s * GB * efficiency.bandwidth * tensor_parallel
    share = efficiency.compute_share(model.weight_dtype, experts=model.experts is not None)
    flops = peak_flop_per_s(model, gpu) * share * tensor_parallel
    latency_s, link_s_per_token = _allreduce(model, gpu, tensor_parallel, efficiency)
    token_s = 2 * model.active_params / flops + link_s_per_token
    read, read_per_sequence = _weights_read(model, sequences)
    layer_s = efficiency.layer_overhead_s
    layer_s += efficiency.moe_layer_overhead_s * (model.experts is not None)
    # Fewer KV heads than GPUs: each GPU reads its own copy of a head.
    kv_bandwidth = bandwidth / max(1.0, tensor_parallel / model.kv_shards)
    return (
        read / bandwidth + efficiency.step_overhead_s + model.layers * layer_s + latency_s,
        token_s,
        token_s + read_per_sequence / bandwidth + efficiency.sequence_overhead_s,
        model.kv_bytes_per_token / kv_bandwidth,
    )


def peak_flop_per_s(model: ModelSpec, gpu: GpuType) -> float:
    """Dense peak for the model's weights: of their width where the GPU computes in it.

    Integer weights are widened to 16 bits before the product (weight-only quantisation).
    """
    fp8 = gpu.fp8_tflop_per_s or gpu.fp16_tflop_per_s
    narrow = {"fp8": fp8, "fp4": gpu.fp4_tflop_per_s or gpu.fp16_tflop_per_s}
    return narrow.get(model.weight_dtype, gpu.fp16_tflop_per_s) * 1e12


def _weights_read(model: ModelSpec, sequences: float | None) -> tuple[float, float]:
    """Bytes of weights that a step reads, and how many more with each sequence."""
    if model.experts is None:
        return model.weight_bytes, 0.0
    if sequences is not None:
        return model.touched_params(sequences) * BYTES_PER_VALUE[model.weight_dtype], 0.0
    return _line(model)


@functools.lru_cache(maxsize=256)
def _line(model: ModelSpec) -> tuple[float, float]:
    """The line (at 0, slope) with the least squared relative error to the bytes read."""
    import numpy as np

    batches = np.array(BATCHES, dtype=np.float64)
    read = (
        np.array([model.touched_params(n) for n in BATCHES]) * (BYTES_PER_VALUE[model.weight_dtype])
    )
    rows = np.stack([1 / read, batches / read], axis=1)
    start, slope = np.linalg.lstsq(rows, np.ones(len(batches)), rcond=None)[0]
    return float(start), float(slope)


def kv_capacity_tokens(
    model: ModelSpec, gpu: GpuType, tensor_parallel: int, engine: EngineOptions
) -> int:
    """Tokens of KV cache that the memory left beside the weights can hold (0 when none)."""
    # Fewer KV heads than GPUs: each GPU keeps a copy of a head, so the cache is not split further.
    copies = max(1.0, tensor_parallel / model.kv_shards)
    left = _usable_bytes(gpu, tensor_parallel, engine) - model.weight_bytes
    return max(0, int(left / (model.kv_bytes_per_token * copies)))


def _usable_bytes(gpu: GpuType, tensor_parallel: int, engine: EngineOptions) -> float:
    per_gpu = gpu.memory_gb * engine.gpu_memory_utilization - RUNTIME_GB
    return max(0.0, per_gpu) * GB * tensor_parallel


def _allreduce(
    model: ModelSpec, gpu: GpuType, tensor_parallel: int, efficiency: Efficiency
) -> tuple[float, float]:
    """Seconds of latency per step and per token spent in all-reduces: two in each layer.

    A ring moves 2 (k-1)/k of the data over each link (Patarasuk and Yuan, 2009). Cards on PCIe
    share the host's path instead, so that times grow with k - 1: so they do in the all-reduce
    tables of L40S in AIConfigurator's database (1 to 6 to 16 for 2, 4 and 8 cards).
    """
    if tensor_parallel == 1 or gpu.link_gb_per_s == 0:
        return 0.0, 0.0
    rounds = 2 * model.layers
    pcie, k = gpu.link == "pcie", tensor_parallel
    share = efficiency.pcie_link if pcie else efficiency.link
    moved = k - 1 if pcie else 2 * (k - 1) / k
    token_bytes = model.hidden_size * ACTIVATION_BYTES * moved
    return (
        rounds * efficiency.allreduce_latency_s,
        rounds * token_bytes / (gpu.link_gb_per_s * GB * share),
    )
